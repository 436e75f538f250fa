package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// rebuildFile requests, if it exists, that the next start rebuilds the database.
func rebuildFile(path string) string { return filepath.Join(filepath.Dir(path), "rebuild") }

// rebuild moves everything readable of a damaged database into a new one, which replaces it once it is complete. The damaged
// one stays beside it. The database must not be open.
func rebuild(path string, cause error, log *slog.Logger) error {
	kept, made := path+".damaged", path+".rebuilt"
	log.Error("store.rebuild", "error", cause, "damaged", kept)
	for _, name := range []string{made, made + "-wal", made + "-shm"} {
		if err := remove(name); err != nil {
			return err
		}
	}
	if err := copyReadable(path, made, log); err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	if err := errors.Join(remove(kept), remove(kept+"-wal"), os.Link(path, kept)); err != nil {
		return fmt.Errorf("keep the damaged database: %w", err)
	}
	// After a crash between these two, the stamps have the new database refused until the WAL of the old one is gone.
	if err := os.Rename(made, path); err != nil {
		return err
	}
	for _, rest := range []string{"-wal", "-shm"} { // what the WAL held is in the copy
		if err := os.Rename(path+rest, kept+rest); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(remove(rebuildFile(path)), syncDir(filepath.Dir(path)))
}

func copyReadable(path, made string, log *slog.Logger) (err error) {
	from, err := connect(path, false)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // it is damaged
	to, err := Connect(made)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err := makeSchema(to); err != nil {
		return err
	}
	if err := sqlitex.ExecuteTransient(to, "BEGIN", nil); err != nil {
		return err
	}
	for _, table := range []string{
		"activities", "bodies", "deliveries", "dead", "hosts", "orders", "keys", "died", "meta", "tombstones", "feed", "positions", "minutes",
	} {
		c := &copying{log: log, from: from, to: to, table: table}
		if err := c.run(); err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
	}
	if err := sqlitex.ExecuteTransient(to, "UPDATE meta SET marked = 0", nil); err != nil { // all marks are made again
		return err
	}
	return sqlitex.ExecuteTransient(to, "COMMIT", nil)
}

// copying copies the rows of one table.
type copying struct {
	log      *slog.Logger
	from, to *sqlite.Conn
	table    string
	key      string // the name of the column that the table is ordered by
	columns  []string
	insert   *sqlite.Stmt
}

func (c *copying) run() error {
	err := each(c.to, "SELECT name, pk FROM pragma_table_info(?)", []any{c.table}, func(row *sqlite.Stmt) error {
		c.columns = append(c.columns, row.ColumnText(0))
		if row.ColumnInt(1) > 0 {
			c.key = row.ColumnText(0)
		}
		return nil
	})
	if err != nil {
		return err
	}
	list := strings.Join(c.columns, ", ")
	c.insert, err = c.to.Prepare("INSERT OR IGNORE INTO " + c.table + " (" + list + ") VALUES (" +
		strings.TrimSuffix(strings.Repeat("?,", len(c.columns)), ",") + ")")
	if err != nil {
		return err
	}
	defer func() { _ = c.insert.Finalize() }()
	query := "SELECT " + list + ", " + c.key + " FROM " + c.table + " NOT INDEXED ORDER BY " + c.key
	if c.table == "meta" {
		query = strings.Replace(query, " ORDER BY", " WHERE one = 1 ORDER BY", 1)
		if err := sqlitex.ExecuteTransient(c.to, "DELETE FROM meta", nil); err != nil {
			return err
		}
		defer func() {
			_ = sqlitex.ExecuteTransient(c.to, "INSERT OR IGNORE INTO meta (one) VALUES (1)", nil)
		}()
	}
	return c.both(query)
}

// both copies rows forwards from the first as far as they can be read, and backwards from the last. Rows between them cannot be
// read.
func (c *copying) both(query string) error {
	last := "the beginning"
	err := c.rows(query, &last)
	if err == nil || !isCorrupt(err) {
		return err
	}
	first := "the end"
	if err := c.rows(query+" DESC", &first); err != nil && !isCorrupt(err) {
		return err
	}
	logDamage(c.log, fmt.Errorf("rows of %s cannot be read: %w", c.table, err), "after", last, "before", first)
	return nil
}

// rows copies rows as far as they can be read. A row that does not fit into its table is left out.
func (c *copying) rows(query string, last *string) error {
	key := len(c.columns)
	stmt, _, err := c.from.PrepareTransient(query)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Finalize() }()
	for {
		there, err := stmt.Step()
		if err != nil || !there {
			return err
		}
		*last = stmt.ColumnText(key)
		if err := c.copyRow(stmt); err != nil {
			code := sqlite.ErrCode(err).ToPrimary()
			if code != sqlite.ResultConstraint && code != sqlite.ResultMismatch {
				return err
			}
			logDamage(c.log, fmt.Errorf("row %s of %s is damaged and left out: %w", *last, c.table, err))
		}
	}
}

func (c *copying) copyRow(row *sqlite.Stmt) error {
	defer func() { _ = c.insert.Reset() }()
	for i := range c.columns {
		switch row.ColumnType(i) {
		case sqlite.TypeInteger:
			c.insert.BindInt64(i+1, row.ColumnInt64(i))
		case sqlite.TypeFloat:
			c.insert.BindFloat(i+1, row.ColumnFloat(i))
		case sqlite.TypeText:
			c.insert.BindText(i+1, row.ColumnText(i))
		case sqlite.TypeBlob:
			c.insert.BindBytes(i+1, blob(row, i))
		default:
			c.insert.BindNull(i + 1)
		}
	}
	_, err := c.insert.Step()
	return err
}
