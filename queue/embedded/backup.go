package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// backupStep is how many pages are copied between two checks of the context.
const backupStep = 1000

// Backup copies the database of the store in dir, as it is at one moment, into a new file. A node may work on the store
// meanwhile, and is not held up. The file appears once it is whole. It does not hold the store's master key.
func Backup(ctx context.Context, dir, file string) (err error) {
	path := filepath.Join(dir, "postrider.db")
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("there is no store in %s: %w", dir, err)
	}
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s is there already", file)
	}
	part := file + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(part))
		}
	}()
	if err := f.Close(); err != nil {
		return err
	}
	if err := copyDatabase(ctx, path, part); err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	if err := os.Rename(part, file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}

// copyDatabase copies a database as one transaction sees it.
func copyDatabase(ctx context.Context, from, to string) (err error) {
	source, err := sqlite.OpenConn(from, sqlite.OpenReadOnly)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := sqlite.OpenConn(to, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	for _, query := range []string{"PRAGMA busy_timeout=5000", "BEGIN", "SELECT count(*) FROM meta"} {
		if err := sqlitex.ExecuteTransient(source, query, nil); err != nil {
			return err
		}
	}
	backup, err := sqlite.NewBackup(target, "main", source, "main")
	if err != nil {
		return err
	}
	for more := true; more && err == nil; {
		if err = ctx.Err(); err == nil {
			more, err = backup.Step(backupStep)
		}
	}
	return errors.Join(err, backup.Close())
}
