package allowlist

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tidwall/btree"

	"github.com/depguard/depguard/policy"
)

// TestByIDModel compares the list with the plainest thing that could be
// right: a map from identity to the grants in their order.
func TestByIDModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	rules := make([]*Rule, 5)
	for i := range rules {
		rules[i] = &Rule{Text: fmt.Sprint("rule ", i)}
	}
	for round := range 50 {
		births := make(map[[2]uint64]int64)
		model := make(map[FileID][]item)
		var items []item
		for range rng.IntN(3000) {
			// Few devices and inode numbers, so that files meet; a file has one birth.
			id := FileID{Dev: rng.Uint64N(3), Ino: rng.Uint64N(500)}
			if rng.IntN(10) == 0 {
				id.Ino = ^id.Ino
			}
			key := [2]uint64{id.Dev, id.Ino}
			if _, ok := births[key]; !ok {
				births[key] = rng.Int64N(3)
			}
			id.Birth = births[key]
			access := policy.Access(1 + rng.IntN(15))
			if rng.IntN(40) == 0 {
				access = 0
			}
			it := item{id, rules[rng.IntN(len(rules))], access}
			items = append(items, it)
			model[id] = append(model[id], it)
		}
		l := newList(items, nil, policy.Deny)
		if l.Stats().Files != len(model) || l.count() != len(model) {
			t.Fatalf("round %d: %d files, %d in the list, want %d", round, l.Stats().Files, l.count(), len(model))
		}
		for range 3000 {
			id := FileID{Dev: rng.Uint64N(4), Ino: rng.Uint64N(520)}
			if rng.IntN(10) == 0 {
				id.Ino = ^id.Ino
			}
			id.Birth = births[[2]uint64{id.Dev, id.Ino}]
			asked := id
			if rng.IntN(4) == 0 {
				asked.Birth = rng.Int64N(3)
			}
			want := policy.Access(rng.IntN(16))
			v, ok := l.ByID(asked, want)
			wantV, wantOK := modelByID(model[id], asked, want)
			if ok != wantOK || v != wantV {
				t.Fatalf("round %d: ByID(%v, %s) = %+v, %v; want %+v, %v", round, asked, want, v, ok, wantV, wantOK)
			}
		}
	}
}

func modelByID(items []item, id FileID, want policy.Access) (Verdict, bool) {
	if len(items) == 0 || items[0].id.Birth != id.Birth && items[0].id.Birth != 0 && id.Birth != 0 {
		return Verdict{}, false
	}
	var all policy.Access
	for _, it := range items {
		if it.access == 0 {
			return Verdict{Deny, it.rule}, true
		}
		all |= it.access
	}
	if !all.Has(want) {
		return Verdict{}, false
	}
	// The rule is one that gave a wanted right first; of several such the
	// one that came last, which is the one most to the point.
	var rule *Rule
	all = 0
	for _, it := range items {
		if fresh := it.access &^ all; fresh != 0 && (want == 0 || fresh&want != 0) {
			rule = it.rule
		}
		all |= it.access
	}
	return Verdict{Allow, rule}, true
}

func TestByPath(t *testing.T) {
	ws, sdk, secret, deep := &Rule{Text: "ws"}, &Rule{Text: "sdk"}, &Rule{Text: "secret"}, &Rule{Text: "deep"}
	l := newList(nil, []treeItem{
		{"/src", ws, workspaceAccess},
		{"/src/secret", secret, 0},
		{"/src/secret/open", deep, workspaceAccess},
		{"/opt/sdk", sdk, policy.Read},
		{"/opt/sdk/bin", deep, policy.Exec},
	}, policy.Deny)
	for _, tt := range []struct {
		path string
		want policy.Access
		v    Verdict
	}{
		{"/src", policy.List, Verdict{Allow, ws}},
		{"/src/a/b/c", policy.Write, Verdict{Allow, ws}},
		{"/srcs/a", policy.Read, Verdict{Action: Deny}},
		{"/sr", policy.Read, Verdict{Action: Deny}},
		{"/", policy.List, Verdict{Action: Deny}},
		{"", policy.Read, Verdict{Action: Deny}},
		{"src/a", policy.Read, Verdict{Action: Deny}},
		{"/src/secret", policy.Read, Verdict{Deny, secret}},
		{"/src/secret/x", policy.Read, Verdict{Deny, secret}},
		{"/src/secret/open/x", policy.Read, Verdict{Deny, secret}}, // none wins, the nearer tree or not
		{"/src/secrets", policy.Read, Verdict{Allow, ws}},
		{"/opt/sdk/bin/cc", policy.Exec, Verdict{Allow, deep}},
		{"/opt/sdk/bin/cc", policy.Read, Verdict{Allow, sdk}},
		{"/opt/sdk/bin/cc", policy.Read | policy.Exec, Verdict{Allow, deep}}, // added up
		{"/opt/sdk/bin/cc", policy.Write, Verdict{Action: Deny}},
		{"/opt/sdk/lib", policy.Exec, Verdict{Action: Deny}},
		{"/opt/sdk/\xff\n/x", policy.Read, Verdict{Allow, sdk}},
		{"/src//a", policy.Read, Verdict{Allow, ws}},
	} {
		if got := l.ByPath([]byte(tt.path), tt.want); got != tt.v {
			t.Errorf("ByPath(%q, %s) = %+v, want %+v", tt.path, tt.want, got, tt.v)
		}
	}
	root := newList(nil, []treeItem{{"/", ws, policy.Read}}, policy.Hide)
	for path, want := range map[string]Action{"/": Allow, "/a": Allow, "/a/b": Allow, "": Hide} {
		if got := root.ByPath([]byte(path), policy.Read); got.Action != want {
			t.Errorf("with the tree /: ByPath(%q) = %+v, want %v", path, got, want)
		}
	}
}

func FuzzByPath(f *testing.F) {
	l := newList(nil, []treeItem{{"/src", &Rule{}, policy.Read}, {"/src/no", &Rule{}, 0}}, policy.Deny)
	f.Add("/src/no/x")
	f.Add("//src")
	f.Add("\x00")
	f.Fuzz(func(t *testing.T, path string) {
		in := func(dir string) bool {
			return len(path) >= len(dir) && path[:len(dir)] == dir && (len(path) == len(dir) || path[len(dir)] == '/')
		}
		want := in("/src") && !in("/src/no")
		if got := l.ByPath([]byte(path), policy.Read); (got.Action == Allow) != want {
			t.Errorf("ByPath(%q) = %v, want allow: %v", path, got.Action, want)
		}
	})
}

func TestEntriesStops(t *testing.T) {
	l := newList([]item{{FileID{1, 2, 3}, &Rule{}, policy.Read}, {FileID{1, 3, 3}, &Rule{}, 0}}, []treeItem{{"/a", &Rule{}, policy.Read}, {"/b", &Rule{}, 0}}, policy.Hide)
	for stop := 1; stop <= 4; stop++ {
		n := 0
		for range l.Entries() {
			if n++; n == stop {
				break
			}
		}
		if n != stop {
			t.Errorf("%d entries, want %d", n, stop)
		}
	}
}

func TestDecidingAllocatesNothing(t *testing.T) {
	l := newList([]item{{FileID{1, 2, 3}, &Rule{}, policy.Read}}, []treeItem{{"/src", &Rule{}, policy.Read}}, policy.Hide)
	path := []byte("/src/lib/main.c")
	n := testing.AllocsPerRun(100, func() {
		if _, ok := l.ByID(FileID{1, 2, 3}, policy.Read); !ok {
			t.Error("not found")
		}
		if _, ok := l.ByID(FileID{9, 9, 9}, policy.Read); ok {
			t.Error("found")
		}
		if v := l.ByPath(path, policy.Read); v.Action != Allow {
			t.Error("not allowed")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

const million = 1_000_000

// bigList has a million files on three devices, with gaps between the inode
// numbers, and the identities to ask for in random order.
func bigList() (*List, []FileID) {
	rng := rand.New(rand.NewPCG(3, 4))
	rules := []*Rule{{Text: "a"}, {Text: "b"}, {Text: "c"}}
	items := make([]item, million)
	ids := make([]FileID, million)
	for i := range items {
		ids[i] = FileID{Dev: uint64(i % 3), Ino: uint64(i)*3 + rng.Uint64N(3), Birth: int64(i)}
		items[i] = item{ids[i], rules[rng.IntN(3)], policy.Read | policy.Exec}
	}
	rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return newList(items, nil, policy.Hide), ids
}

// BenchmarkLookup sets ByID among a million files beside the bare B-tree.
// cold asks for random files of the million, warm for the same 64.
func BenchmarkLookup(b *testing.B) {
	l, ids := bigList()
	trees := [3]*btree.Map[uint64, entry]{l.devices[0], l.devices[1], l.devices[2]}
	for _, set := range []struct {
		name string
		ids  []FileID
	}{{"cold", ids}, {"warm", ids[:64]}} {
		b.Run(set.name+"/ByID", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := l.ByID(set.ids[i%len(set.ids)], policy.Read); !ok {
					b.Fatal("not found")
				}
			}
		})
		b.Run(set.name+"/btree.Map.Get", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				id := set.ids[i%len(set.ids)]
				if _, ok := trees[id.Dev].Get(id.Ino); !ok {
					b.Fatal("not found")
				}
			}
		})
	}
	b.Run("absent/ByID", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			id := ids[i%len(ids)]
			if _, ok := l.ByID(FileID{Dev: (id.Dev + 1) % 3, Ino: id.Ino}, policy.Read); ok && id.Ino > 9 {
				b.Fatal("found")
			}
		}
	})
}

func BenchmarkByPath(b *testing.B) {
	var trees []treeItem
	for i := range 20 {
		trees = append(trees, treeItem{fmt.Sprintf("/opt/sdk%d/lib", i), &Rule{}, policy.Read})
	}
	trees = append(trees, treeItem{"/home/user/src/project", &Rule{}, workspaceAccess})
	l := newList(nil, trees, policy.Hide)
	for _, path := range []string{"/home/user/src/project/src/deps/lua/src/lapi.c", "/usr/lib/x86_64-linux-gnu/undeclared.so"} {
		b.Run(path[1:5], func(b *testing.B) {
			b.ReportAllocs()
			path := []byte(path)
			for b.Loop() {
				l.ByPath(path, policy.Read)
			}
		})
	}
}

func BenchmarkLoadMillion(b *testing.B) {
	for b.Loop() {
		bigList()
	}
}
