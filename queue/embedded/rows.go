package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/queue"
)

// encode returns a list as JSON, or nil if it is empty.
func encode[T any](list []T) any {
	if len(list) == 0 {
		return nil
	}
	return toJSON(list)
}

// toJSON returns v as JSON. Only operations of the writer call it: if v had none, the panic would fail that operation
// (guarded).
func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// decode reads what encode wrote.
func decode(text string, v any) error {
	if text == "" {
		return nil
	}
	return json.NewDecoder(strings.NewReader(text)).Decode(v)
}

func blob(row *sqlite.Stmt, col int) []byte {
	b := make([]byte, row.ColumnLen(col))
	row.ColumnBytes(col, b)
	return b
}

// uuidOf reads an ID, the zero one if there is none.
func uuidOf(row *sqlite.Stmt, column int) (id uuid.UUID) {
	if row.ColumnLen(column) == len(id) {
		row.ColumnBytes(column, id[:])
	}
	return id
}

// priorityOf reads a priority; an invalid one is Normal.
func priorityOf(row *sqlite.Stmt, column int) queue.Priority {
	if p := row.ColumnInt64(column); p >= 0 && p < queue.Priorities {
		return queue.Priority(p)
	}
	return queue.Normal
}

// decoded reads what encode wrote of a T, the zero one if it is damaged.
func decoded[T any](row *sqlite.Stmt, column int) T {
	var v, none T
	if decode(row.ColumnText(column), &v) != nil {
		return none
	}
	return v
}

// metadataOf reads the metadata of an activity, none if they are damaged.
func metadataOf(row *sqlite.Stmt, column int) []byte {
	if text := row.ColumnText(column); text != "" && json.Valid([]byte(text)) {
		return []byte(text)
	}
	return nil
}

// countsOf reads the counts of an activity from four columns: total, delivered, dead, cancelled.
func countsOf(row *sqlite.Stmt, first int) queue.Counts {
	n := queue.Counts{
		Total: row.ColumnInt(first), Delivered: row.ColumnInt(first + 1), Dead: row.ColumnInt(first + 2), Cancelled: row.ColumnInt(first + 3),
	}
	n.Pending = n.Total - n.Delivered - n.Dead - n.Cancelled
	return n
}

// read returns what f reads on a read connection.
func read[T any](ctx context.Context, d *database, f func(*sqlite.Conn) (T, error)) (v T, err error) {
	err = d.read(ctx, func(c *sqlite.Conn) (err error) {
		v, err = f(c)
		return err
	})
	return v, err
}

// wrap adds to an error that a function returns what failed.
func wrap(err *error, what string) {
	if *err != nil {
		*err = fmt.Errorf("%s: %w", what, *err)
	}
}

// each runs a query and calls row for each row of its answer.
func each(c *sqlite.Conn, query string, args []any, row func(*sqlite.Stmt) error) error {
	return sqlitex.Execute(c, query, &sqlitex.ExecOptions{Args: args, ResultFunc: row})
}

// binder binds the parameters of a statement, one after the other. Those that it does not come to are NULL.
type binder struct {
	stmt *sqlite.Stmt
	n    int
}

func (b *binder) next() int {
	b.n++
	return b.n
}

func (b *binder) null() { b.n++ }

func (b *binder) texts(all ...string) {
	for _, text := range all {
		b.stmt.BindText(b.next(), text)
	}
}

func (b *binder) ints(all ...int64) {
	for _, n := range all {
		b.stmt.BindInt64(b.next(), n)
	}
}

// bytes binds bytes, or NULL if there are none.
func (b *binder) bytes(p []byte) {
	if len(p) == 0 {
		b.null()
		return
	}
	b.stmt.BindBytes(b.next(), p)
}

// optional binds a text, or NULL if it is empty.
func (b *binder) optional(text string) {
	if text == "" {
		b.null()
		return
	}
	b.stmt.BindText(b.next(), text)
}

// run runs the statement, which has no answer.
func (b *binder) run() error {
	defer b.stmt.Reset()
	_, err := b.stmt.Step()
	return err
}

// one returns the first column of the last row of a query's answer, and whether there is a row.
func one[T any](c *sqlite.Conn, column func(*sqlite.Stmt, int) T, query string, args ...any) (v T, found bool, err error) {
	err = each(c, query, args, func(row *sqlite.Stmt) error {
		v, found = column(row, 0), true
		return nil
	})
	return v, found, err
}

// exists reports whether a query has an answer.
func exists(c *sqlite.Conn, query string, args ...any) (bool, error) {
	_, found, err := one(c, (*sqlite.Stmt).ColumnType, query, args...)
	return found, err
}

// page returns the answer of a query, up to a limit. read returns an item and the cursor of what comes after it.
func page[T any](c *sqlite.Conn, limit int, query string, args []any, read func(*sqlite.Stmt) (T, string)) (list queue.List[T], err error) {
	var item T
	var next string
	err = each(c, query+" LIMIT ?", append(args, limit+1), func(row *sqlite.Stmt) error {
		if len(list.Items) == limit {
			list.Next = next
			return nil
		}
		item, next = read(row)
		list.Items = append(list.Items, item)
		return nil
	})
	return list, err
}

func millis(t time.Time) int64 { return t.UnixMilli() }

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
