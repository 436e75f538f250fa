package app

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
)

// TestLinks checks that the pages link only to files of the repository and to headings that these have.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^):\s]*)\)`) // a colon makes it an address elsewhere
	checked := 0
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(readPage(t, page), -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = path.Join(path.Dir(page), file)
			}
			if _, err := fs.Stat(repository, target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			if anchor != "" && !hasHeading(readPage(t, target), anchor) {
				t.Errorf("%s links to %s, and there is no such heading", page, m[1])
			}
			checked++
		}
	}
	if checked < 50 {
		t.Errorf("only %d links found", checked)
	}
}

// TestFilesInPages checks that the source files that pages name are there. A page may leave out the first folders of a path.
func TestFilesInPages(t *testing.T) {
	there, named := endsOfPaths(t), 0
	for _, page := range pages(t) {
		for _, m := range regexp.MustCompile("`([\\w/]+\\.(go|lua))`").FindAllStringSubmatch(readPage(t, page), -1) {
			if named++; !there[m[1]] {
				t.Errorf("%s names %s, and there is no such file", page, m[1])
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d files found", named)
	}
}

// endsOfPaths returns the paths of all files of the repository, and what is left of them without their first folders.
func endsOfPaths(t *testing.T) map[string]bool {
	t.Helper()
	ends := map[string]bool{}
	err := fs.WalkDir(repository, ".", func(file string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules") {
			return fs.SkipDir
		}
		for more := true; more; _, file, more = strings.Cut(file, "/") {
			ends[file] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ends
}

// TestReadmeIsShort checks that the README stays a first page. Everything else goes to docs.
func TestReadmeIsShort(t *testing.T) {
	if n := strings.Count(readPage(t, "README.md"), "\n"); n > 150 {
		t.Errorf("the README has %d lines, want at most 150", n)
	}
}

// pages returns the Markdown files that people read.
func pages(t *testing.T) (found []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md", "queue/*/README.md", "kits/*/README.md", "kits/*/*/README.md"} {
		files, err := fs.Glob(repository, pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, files...)
	}
	return found
}

func readPage(t *testing.T, file string) string {
	t.Helper()
	text, err := fs.ReadFile(repository, file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// hasHeading reports whether a page has a heading with this anchor, which forges make from the text of the heading.
func hasHeading(text, anchor string) bool {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		plain := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		if strings.ReplaceAll(plain, " ", "-") == anchor {
			return true
		}
	}
	return false
}
