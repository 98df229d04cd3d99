package policy

import "strings"

// longestWord bounds what Suggest looks at; nobody mistypes more.
const longestWord = 64

// Suggest returns the candidate that a person who wrote word most likely
// meant, or "" when none is near. Near is: few typing errors for the length
// of the word (Damerau–Levenshtein distance, upper and lower case alike), or
// else the shortest candidate that begins with the word. A tie goes to the
// alphabetically first, so that the answer does not depend on the order.
func Suggest(word string, candidates []string) string {
	if len(word) < 2 || len(word) > longestWord {
		return ""
	}
	folded := strings.ToLower(word)
	limit := min(1+len(folded)/5, 3)
	best, bestDistance := "", limit+1
	completion := ""
	for _, c := range candidates {
		if c == word {
			continue
		}
		foldedCandidate := strings.ToLower(c)
		if d := distance(folded, foldedCandidate, limit); d < bestDistance || d == bestDistance && d <= limit && c < best {
			best, bestDistance = c, d
		}
		if strings.HasPrefix(foldedCandidate, folded) && (completion == "" || shorter(c, completion)) {
			completion = c
		}
	}
	if best != "" {
		return best
	}
	return completion
}

func shorter(a, b string) bool {
	return len(a) < len(b) || len(a) == len(b) && a < b
}

// distance returns how many insertions, deletions, replacements and swaps of
// neighbours turn a into b (the optimal string alignment distance, by bytes),
// or limit+1 when there are more than limit.
func distance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) > limit {
		return limit + 1
	}
	// Three rows of the table: for a[:i-2], a[:i-1] and a[:i].
	before, previous, current := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			replaced := previous[j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			current[j] = min(replaced, previous[j]+1, current[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return min(previous[len(b)], limit+1)
}

// didYouMean is the hint for a word that is none of the known ones.
func didYouMean(word string, known []string) string {
	if s := Suggest(word, known); s != "" {
		return `did you mean "` + s + `"?`
	}
	return "known here: " + strings.Join(known, ", ")
}
