package route

import (
	"iter"
	"strings"
)

// Rows are rows in the order in which they were read. There may be millions: they
// are kept without pointers, which the garbage collector would follow again and
// again, at the expense of logins. The zero Rows, and nil, have none.
type Rows struct {
	rows  []keptRow
	text  []*strings.Builder // pieces of memory for keys and login names
	names []string           // of targets and files
	index map[string]uint32  // where a name is in names
}

// keptRow is one of [Rows].
type keptRow struct {
	piece, at                  uint32 // where the key begins, the login name behind it
	key, login                 uint32 // lengths
	target, file               uint32 // in Rows.names
	line, column, targetColumn uint32
}

// textPiece is how much memory keys are given at a time: as many objects as rows would
// be much work for the garbage collector.
const textPiece = 64 << 10

// NewRows returns rows, of which nothing is kept but copies.
func NewRows(rows ...Row) *Rows {
	r := new(Rows)
	for _, row := range rows {
		r.Append(row)
	}
	return r
}

// Append adds a copy of a row.
func (r *Rows) Append(row Row) {
	r.add([]byte(row.Key), []byte(row.Login), keptRow{
		target: r.name([]byte(row.Target)), file: r.name([]byte(row.Source.File)),
		line: uint32(row.Source.Line), column: uint32(row.Source.Column), targetColumn: uint32(row.TargetColumn), //nolint:gosec // no file is so large
	})
}

// AppendAll adds copies of others, at a pace.
func (r *Rows) AppendAll(others *Rows, pace *Pace) {
	for row := range others.All() {
		pace.step()
		r.Append(row)
	}
}

// add adds a row with copies of its key and login name.
func (r *Rows) add(key, login []byte, row keptRow) {
	size := len(key) + len(login)
	if n := len(r.text); n == 0 || r.text[n-1].Cap()-r.text[n-1].Len() < size {
		piece := new(strings.Builder)
		piece.Grow(max(textPiece, size))
		r.text = append(r.text, piece)
	}
	piece := r.text[len(r.text)-1]
	row.piece, row.at = uint32(len(r.text)-1), uint32(piece.Len()) //nolint:gosec // pieces are small
	row.key, row.login = uint32(len(key)), uint32(len(login))      //nolint:gosec // see MaxLine
	piece.Write(key)
	piece.Write(login)
	r.rows = append(r.rows, row)
}

// name returns where a name is in names: rows have few different ones.
func (r *Rows) name(name []byte) uint32 {
	at, ok := r.index[string(name)]
	if !ok {
		if r.index == nil {
			r.index = make(map[string]uint32)
		}
		at = uint32(len(r.names)) //nolint:gosec // there are fewer than rows
		r.names = append(r.names, string(name))
		r.index[r.names[at]] = at
	}
	return at
}

// Len returns how many rows there are.
func (r *Rows) Len() int {
	if r == nil {
		return 0
	}
	return len(r.rows)
}

// At returns a row, counted from 0. Its key and its login name keep many others in
// memory.
func (r *Rows) At(i int) Row {
	row := &r.rows[i]
	text := r.text[row.piece].String()[row.at:]
	return Row{
		Key:          text[:row.key],
		Target:       r.names[row.target],
		Login:        text[row.key : row.key+row.login],
		Source:       Position{File: r.names[row.file], Line: int(row.line), Column: int(row.column)},
		TargetColumn: int(row.targetColumn),
	}
}

// All goes through the rows, as At returns them.
func (r *Rows) All() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for i := 0; i < r.Len() && yield(r.At(i)); i++ {
		}
	}
}
