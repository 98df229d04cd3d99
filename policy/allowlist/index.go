package allowlist

import (
	"cmp"
	"slices"

	"github.com/tidwall/btree"

	"github.com/depguard/depguard/policy"
)

// item is one grant on its way into the index.
type item struct {
	id     FileID
	rule   *Rule
	access policy.Access // empty: denied
}

// treeItem is one grant to a tree on its way into the index.
type treeItem struct {
	path   string
	rule   *Rule
	access policy.Access // empty: denied
}

// newList indexes items and trees. Where several rules grant the same right
// to a file, the one that stands first gets it. It sorts items.
func newList(items []item, trees []treeItem, undeclared policy.Undeclared) *List {
	l := &List{
		devices:    make(map[uint64]*btree.Map[uint64, entry]),
		trees:      make(map[string]uint32, len(trees)),
		undeclared: Hide,
	}
	if undeclared == policy.Deny {
		l.undeclared = Deny
	}
	b := grantBuilder{grants: make([]grant, 1), known: make(map[grant]uint32)} // grants[0] ends chains
	for _, t := range trees {
		l.trees[t.path] = b.add(l.trees[t.path], t.rule, t.access)
		l.longest = max(l.longest, len(t.path))
	}
	slices.SortStableFunc(items, func(a, b item) int {
		return cmp.Or(cmp.Compare(a.id.Dev, b.id.Dev), cmp.Compare(a.id.Ino, b.id.Ino))
	})
	for len(items) > 0 {
		id, e := items[0].id, entry{birth: items[0].id.Birth}
		for len(items) > 0 && items[0].id.Dev == id.Dev && items[0].id.Ino == id.Ino {
			e.grant = b.add(e.grant, items[0].rule, items[0].access)
			items = items[1:]
		}
		tree := l.devices[id.Dev]
		if tree == nil {
			tree = new(btree.Map[uint64, entry])
			l.devices[id.Dev] = tree
		}
		tree.Load(id.Ino, e) // ascending: appends
		l.stats.Files++
	}
	l.grants = b.grants
	l.stats.Trees = len(l.trees)
	return l
}

// grantBuilder makes chains of grants, each link once.
type grantBuilder struct {
	grants []grant
	known  map[grant]uint32
}

// add returns the chain that begins at first with one more rule in it. A
// denial replaces the whole chain, for good.
func (b *grantBuilder) add(first uint32, rule *Rule, access policy.Access) uint32 {
	if access == 0 {
		if first != 0 && b.grants[first].access == 0 {
			return first
		}
		return b.link(grant{rule: rule})
	}
	for i := first; i != 0; i = b.grants[i].next {
		if b.grants[i].access == 0 {
			return first
		}
		access &^= b.grants[i].access
	}
	if access == 0 {
		return first
	}
	return b.link(grant{rule: rule, access: access, next: first})
}

func (b *grantBuilder) link(g grant) uint32 {
	if i, ok := b.known[g]; ok {
		return i
	}
	i := uint32(len(b.grants))
	b.grants = append(b.grants, g)
	b.known[g] = i
	return i
}
