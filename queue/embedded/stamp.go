package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// A WAL does not name its database: SQLite applies it to any database beside it. A backup that replaces the database of a killed
// node would silently turn into the old database. So stamps show whether the two belong together:
//
//   - The database has a stamp, SQLite's application_id. The first transaction of each WAL changes it, and so does the last
//     one before the WAL is moved into the database. So the file's stamp is never that of a copy, which has the WAL's, but
//     for copies that began just as the WAL was being moved.
//   - A file beside it holds the stamps that the database file may have: one or, while the WAL is moved into it, two.
//
// Nothing but the store's own writer moves the WAL into the database, therefore.

// errReplaced means that the WAL beside the database belongs to another one.
var errReplaced = errors.New("the database was replaced, by a backup it seems, but what was last written to the one before still lies beside it")

const (
	walPages = 2000                    // how many the WAL may take until it is moved into the database
	walSize  = 32 + walPages*(24+8192) // of its file, in bytes
)

// stamper keeps the stamps of a store. Only the writer uses it.
type stamper struct {
	conn    *sqlite.Conn
	file    *os.File // holds the stamps that the database file may have
	index   *os.File // the WAL's, in memory that SQLite shares: to see how large the WAL is
	inFile  uint32   // the stamp of the database file, but see moving
	moving  uint32   // the other stamp that it may have, as moving the WAL was begun and not completed; 0 if there is none
	inWAL   uint32   // the stamp in the WAL
	changes int64    // rows that were changed when rest last emptied the WAL
	limit   uint32   // of the WAL, in pages
	emptyAt uint32   // how many pages the WAL is to take when it is next tried to empty it
}

const stampFormat = "%08x %08x\n" // always of one size, so that it is written in place, also on a disk that is full

// newStamper opens the file of stamps, and returns errReplaced if the database is not the one that its WAL belongs to. It
// must come before the database is opened.
func newStamper(db string) (*stamper, error) {
	inFile, err := readStamp(db)
	if err != nil {
		return nil, err
	}
	name := filepath.Join(filepath.Dir(db), "stamps")
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	s := &stamper{file: file, inFile: inFile, limit: walPages}
	var one, other uint32
	if _, err := fmt.Fscanf(io.NewSectionReader(file, 0, 64), stampFormat, &one, &other); err != nil {
		return s, nil // it is new, or was never written whole: there is nothing to compare
	}
	if wal, err := os.Stat(db + "-wal"); err != nil || wal.Size() == 0 || inFile == one || inFile == other {
		return s, nil
	}
	return nil, errors.Join(fmt.Errorf("%w: if you restored a backup, delete %s-wal and %[2]s-shm; if you did not, delete %s",
		errReplaced, db, name), file.Close())
}

// readStamp reads the stamp of a database file itself, without what its WAL says. While the database is open in this
// process, this must not be called: closing the file would end SQLite's locks.
func readStamp(db string) (uint32, error) {
	const offset = 68 // of the application_id in the header
	f, err := os.Open(db)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var stamp [4]byte
	if _, err = f.ReadAt(stamp[:], offset); errors.Is(err, io.EOF) {
		err = nil // it is empty still
	}
	return binary.BigEndian.Uint32(stamp[:]), errors.Join(err, f.Close())
}

// begin takes the writer's connection, before anything is written on it.
func (s *stamper) begin(db string, conn *sqlite.Conn) error {
	stamp, err := sqlitex.ResultInt64(conn.Prep("PRAGMA application_id")) // makes the index too, if it isn't there
	if err != nil {
		return err
	}
	if s.index, err = os.Open(db + "-shm"); err != nil {
		return err
	}
	s.conn, s.inWAL = conn, uint32(stamp) // SQLite has it as a signed number
	if err := sqlitex.ExecuteTransient(conn, "PRAGMA wal_autocheckpoint=0", nil); err != nil {
		return err
	}
	// Copies may have been made while the database was closed, so it gets a stamp that it never had. On a full disk this fails,
	// and the store must open all the same.
	_ = s.empty(truncate)
	return nil
}

// keep empties the WAL once it has grown. An error leaves it as it is, to be tried again when it has grown by as much more.
func (s *stamper) keep() {
	if pages := s.pages(); pages >= s.emptyAt {
		s.emptyAt = pages + s.limit
		_ = s.empty(restart) // a fault of the disk shows at the next write
	}
}

// rest empties the WAL if rows were changed since it last did so, apart from clocked changes of the store's time, which an
// idle store goes on to write. It reports whether nothing is left to be done.
func (s *stamper) rest(clocked int64) bool {
	changes, _, err := one(s.conn, (*sqlite.Stmt).ColumnInt64, "SELECT total_changes()")
	if err != nil {
		return false
	}
	if changes -= clocked; changes == s.changes && s.moving == 0 {
		return true
	}
	if s.empty(truncate) != nil || s.moving != 0 {
		return false
	}
	s.changes = changes
	return true
}

// pages returns how many pages the WAL takes.
func (s *stamper) pages() uint32 {
	const offset = 16 // of that number in the index, see SQLite's page on the format of WAL files
	var n [4]byte
	if _, err := s.index.ReadAt(n[:], offset); err != nil {
		return 0
	}
	return binary.NativeEndian.Uint32(n[:])
}

// How the WAL is emptied. Its pages hold what was delivered or deleted since.
const (
	// restart has the next WAL overwrite this one, so it needs no room, which a full disk may not have any more.
	restart = "PRAGMA wal_checkpoint(RESTART)"
	// truncate leaves none of this one, and makes the next commits slower, as the file has to grow.
	truncate = "PRAGMA wal_checkpoint(TRUNCATE)"
)

// empty moves the WAL into the database, and begins the next one. It does not wait for readers: while one needs the WAL, it
// stays, and the file may have the stamp moving.
func (s *stamper) empty(how string) error {
	if err := s.move(); err != nil {
		return err
	}
	var busy bool
	err := s.atOnce(func() (err error) {
		busy, _, err = one(s.conn, (*sqlite.Stmt).ColumnBool, how)
		return err
	})
	if err != nil || busy {
		return errors.Join(err, s.restamp(newStamp()))
	}
	if err := s.write(s.moving, s.moving); err != nil {
		return err
	}
	s.inFile, s.moving = s.moving, 0
	s.emptyAt = s.limit
	return s.restamp(newStamp())
}

// move writes, before the WAL is moved, which stamp the file gets by that. It is one that copies don't have unless the disk is
// full: then emptying the WAL may be what helps. Once a try may have moved it in part, only the same stamp will do.
func (s *stamper) move() error {
	if s.moving != 0 {
		return s.restamp(s.moving)
	}
	_ = s.restamp(newStamp())
	if err := errors.Join(s.write(s.inFile, s.inWAL), s.file.Sync()); err != nil {
		return err
	}
	s.moving = s.inWAL
	return nil
}

// newStamp returns a random stamp, which is not 0 and not negative for SQLite.
func newStamp() uint32 { return rand.Uint32N(math.MaxInt32) + 1 }

// restamp gives the database a stamp, in the WAL.
func (s *stamper) restamp(stamp uint32) error {
	if err := sqlitex.ExecuteTransient(s.conn, fmt.Sprintf("PRAGMA application_id=%d", stamp), nil); err != nil {
		return err
	}
	s.inWAL = stamp
	return nil
}

// atOnce runs a step that does not wait for locks.
func (s *stamper) atOnce(step func() error) error {
	return errors.Join(sqlitex.ExecuteTransient(s.conn, "PRAGMA busy_timeout=0", nil), step(),
		sqlitex.ExecuteTransient(s.conn, "PRAGMA busy_timeout=5000", nil))
}

// write writes which stamps the database file may have. It need not be durable if that is one less than before.
func (s *stamper) write(one, other uint32) error {
	_, err := s.file.WriteAt(fmt.Appendf(nil, stampFormat, one, other), 0)
	return err
}

// end is called before the last connection is closed, which moves the WAL into the database.
func (s *stamper) end() error { return s.move() }

// close closes the files. It comes after the last connection was closed: closing the index before that would end SQLite's
// locks.
func (s *stamper) close() error {
	err := s.file.Close()
	if s.index != nil {
		err = errors.Join(err, s.index.Close())
	}
	return err
}
