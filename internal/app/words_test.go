package app

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/queue"
)

// oldWords are words that this repository does not use, with what it says instead. Each begins with plain letters, by which
// regular expressions find it fast.
var oldWords = []struct{ word, say string }{
	{`tells (whether|which|that)`, "reports whether, says which"},
	{`anew`, "again"},
	{`whoever`, "the caller, the node, the reader"},
	{`seldom`, "logSampler, rarely"},
	{`for ever`, "without end"},
	{`as it were`, "leave it out"},
	{`stumbl(e|ed|es|ing)`, "failed"},
	{`rehears(e|al)\w*`, "try"},
	{`namesakes?`, "the same name"},
	{`letGo`, "release"},
	{`LetGo`, "Release"},
	{`giveUp`, "markUnavailable, shed, abort"},
	{`GiveUp`, "MarkUnavailable, Shed, Abort"},
	{`wakes_(not_)?heard\w*`, "subscription_lost, subscription_restored"},
	{`lines_left_out`, "lines_suppressed"},
	{`stacks_left_out`, "stacks_suppressed"},
	{`library\.said`, "library.log"},
	{`server\.said`, "server.log"},
}

// oldWordsAllowed are the files that keep old words, with the reason.
var oldWordsAllowed = map[string]string{
	"internal/app/words_test.go": "it holds the list",
	"CHANGELOG.md":               "it names what earlier versions logged",
}

var wordEnd = regexp.MustCompile(`\w$`)

// TestWords checks that words which readers had to decode do not come back in code, comments and pages.
func TestWords(t *testing.T) {
	patterns := make([]*regexp.Regexp, len(oldWords))
	for i, old := range oldWords {
		patterns[i] = regexp.MustCompile(old.word + `\b`)
	}
	checked := 0
	for _, file := range textFiles(t, ".go", ".md") {
		if oldWordsAllowed[file] != "" {
			continue
		}
		checked++
		text := readPage(t, file)
		for i, pattern := range patterns {
			for _, at := range pattern.FindAllStringIndex(text, -1) {
				before := text[:at[0]]
				if inWord := wordEnd.MatchString(before[max(0, len(before)-1):]); !inWord {
					t.Errorf("%s:%d: %q; say: %s", file, 1+strings.Count(before, "\n"), text[at[0]:at[1]], oldWords[i].say)
				}
			}
		}
	}
	if checked < 300 {
		t.Errorf("only %d files were checked", checked)
	}
}

// mostAssigned is how many values a statement may assign in parallel.
const mostAssigned = 2

// TestParallelAssignments checks that no statement assigns many values at once. The results of one call may be more.
func TestParallelAssignments(t *testing.T) {
	checked := 0
	for _, file := range textFiles(t, ".go") {
		text := readPage(t, file)
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.AssignStmt)
			if !ok {
				return true
			}
			checked++
			if len(s.Rhs) > mostAssigned {
				t.Errorf("%s assigns %d values in one statement", fset.Position(s.Pos()), len(s.Rhs))
			}
			return true
		})
	}
	if checked < 1000 {
		t.Errorf("only %d assignments were found", checked)
	}
}

// sharedFiles are the files that hold several verbs of the contract, under the name of one of them or of what they are about.
var sharedFiles = map[string][]string{
	"feedpositions.go": {"FeedPosition", "SetFeedPosition"},
	"hosts.go":         {"Host"},
	"keys.go":          {"PutKey", "Key", "DeleteKey", "RetireKey", "ResealKeys"},
	"mark.go":          {"SetMark"},
	"minutes.go":       {"AddMinute"},
	"store.go":         {"Ready", "Close"},
}

// TestVerbsHaveFiles checks that each verb of the contract is in a file of its name in both stores, so that a reader finds
// it there.
func TestVerbsHaveFiles(t *testing.T) {
	files := map[string]string{}
	for file, verbs := range sharedFiles {
		for _, verb := range verbs {
			files[verb] = file
		}
	}
	contract := reflect.TypeFor[queue.Queue]()
	for verb := range contract.Methods() {
		file, shared := files[verb.Name]
		if !shared {
			file = strings.ToLower(verb.Name) + ".go"
		}
		for _, store := range []string{"queue/embedded", "queue/redisq"} {
			name := path.Join(store, file)
			if _, err := fs.Stat(repository, name); err != nil {
				t.Errorf("%s is not in a file of its name: %v", verb.Name, err)
				continue
			}
			if !declares(parse(t, name, 0), verb.Name) {
				t.Errorf("%s has no method %s", name, verb.Name)
			}
		}
	}
}

// declares reports whether a file has an exported method of this name.
func declares(f *ast.File, name string) bool {
	return slices.ContainsFunc(f.Decls, func(d ast.Decl) bool {
		method, ok := d.(*ast.FuncDecl)
		return ok && method.Recv != nil && method.Name.Name == name
	})
}

// textFiles returns the files of the repository that end so, without those of test data and hidden folders.
func textFiles(t *testing.T, endings ...string) (found []string) {
	t.Helper()
	err := fs.WalkDir(repository, ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != "." && (d.Name()[0] == '.' || d.Name() == "testdata" || d.Name() == "node_modules"):
			return fs.SkipDir
		case !d.IsDir() && slices.Contains(endings, path.Ext(file)):
			found = append(found, file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
