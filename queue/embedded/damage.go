package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"zombiezen.com/go/sqlite"
)

// A failing disk or memory changes stored data. Damaged data must not stop anything else:
//
//   - A row with invalid values (loader.rows, choice.fetch): its delivery becomes a dead letter, queue.ReasonDamaged. If not even
//     its activity is known, the row stays, in no lane. A log line names its table and row either way.
//   - A page that SQLite cannot read, found at start: everything readable moves to a new database, see rebuild.
//   - Such a page found later: the deliveries on it leave the lanes, and the next start rebuilds, see noteCorrupt.

// errDisorder means that rows do not come in the order of their keys.
var errDisorder = errors.New("the rows are out of order")

// damage is the error of a row that is damaged.
type damage struct {
	table string
	row   int64
	what  string
}

// Error names the row.
func (d *damage) Error() string {
	return fmt.Sprintf("row %d of %s is damaged: %s", d.row, d.table, d.what)
}

// isCorrupt reports whether SQLite could not read a page of the database.
func isCorrupt(err error) bool {
	if errors.Is(err, errDisorder) {
		return true
	}
	code := sqlite.ErrCode(err).ToPrimary()
	return code == sqlite.ResultCorrupt || code == sqlite.ResultNotADB
}

// isDamage reports whether an error comes from damaged data, so that the same call will fail again. A change of a row fails, for
// example, if one of its values has another type than its column.
func isDamage(err error) bool {
	_, ok := errors.AsType[*damage](err)
	return ok || isCorrupt(err) || sqlite.ErrCode(err).ToPrimary() == sqlite.ResultConstraint
}

// logDamage logs the location of damaged data.
func logDamage(log *slog.Logger, err error, attrs ...any) {
	log.Error("store.damaged", append([]any{"error", err}, attrs...)...)
}

// noteCorrupt requests a rebuild at the next start if the error is that SQLite cannot read a page.
func (d *database) noteCorrupt(err error) {
	if !isCorrupt(err) || d.corrupt.Swap(true) {
		return
	}
	d.log.Error("store.corrupt", "error", err, "detail", "pages of the database cannot be read: "+
		"what is on them is left out; the next start moves all that can be read to a new database")
	if err := writeWhole(rebuildFile(d.path), "the database is to be rebuilt at the next start\n"); err != nil {
		d.log.Error("store.corrupt", "error", err)
	}
}

// laneNameOf returns the host whose lane an inbox belongs to, "" if the inbox is no URL.
func laneNameOf(inbox string) string {
	u, err := url.Parse(inbox)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return strings.TrimSuffix(u.Host, ":443")
}
