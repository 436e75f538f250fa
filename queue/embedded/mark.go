package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/postrider/postrider/queue"
)

func (s *Store) markFile() string { return filepath.Join(filepath.Dir(s.lock.Path()), "mark") }

// Mark implements queue.Moving. It is a file in the store's folder.
func (s *Store) Mark(context.Context) (queue.Mark, error) {
	text, err := os.ReadFile(s.markFile())
	if errors.Is(err, fs.ErrNotExist) {
		return queue.Mark{}, nil
	}
	if err != nil {
		return queue.Mark{}, fmt.Errorf("mark: %w", err)
	}
	return queue.Mark{Text: strings.TrimSpace(string(text)), Remove: "rm " + s.markFile()}, nil
}

// SetMark implements queue.Moving.
func (s *Store) SetMark(_ context.Context, text string) error {
	if text != "" {
		return writeWhole(s.markFile(), text+"\n")
	}
	if err := remove(s.markFile()); err != nil {
		return fmt.Errorf("remove mark: %w", err)
	}
	return syncDir(filepath.Dir(s.markFile()))
}
