package route

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	memdb "github.com/hashicorp/go-memdb"
)

// page is a row of tableUsers and tableDomains: all users, or domains, whose hashes
// begin alike. A million rows of their own would be five million objects, which the
// garbage collector looks at again and again, at the expense of logins; so many in
// pages are some ten thousand, and take an eighth of the memory. Immutable.
type page struct {
	key    []byte // the number of the page, see pageKey
	of     *legend
	places []place // in order of hashes, then keys
	text   string  // keys and login names of all of them
}

func (p *page) indexKey() []byte { return p.key }

// place is one user or domain of a page. It has no pointers.
type place struct {
	hash       uint32
	text       uint32 // where the key begins, the login name behind it
	line       uint32
	target     uint32
	file       uint32
	key, login uint8 // lengths
}

// legend is what the places of all pages of a generation point at.
type legend struct {
	targets []*target
	files   []string
}

// rowsOfPage is how many rows a page has about, or fewer.
const rowsOfPage = 256

// pageBits returns how much of a hash says on which page a row is.
func pageBits(rows int) int { return bits.Len(uint(rows / rowsOfPage)) }

// pageOf returns the number of the page for a hash.
func pageOf(hash uint32, pageBits int) uint32 { return hash >> (32 - pageBits) }

// pageKey returns the key of a page, by which pages are in order of hashes.
func pageKey(number uint32) []byte { return binary.BigEndian.AppendUint32(nil, number) }

// pageHash returns the part of a key's hash that pages are about.
func pageHash(key string) uint32 { return uint32(hashOf(key) >> 32) }

// row returns a row of the page, whose strings keep the whole page in memory.
func (p *page) row(i int) targetRow {
	at := &p.places[i]
	key, login := int(at.text)+int(at.key), int(at.text)+int(at.key)+int(at.login)
	return targetRow{
		hash:   at.hash,
		key:    p.text[at.text:key],
		target: p.of.targets[at.target],
		login:  p.text[key:login],
		file:   p.of.files[at.file],
		line:   int(at.line),
	}
}

// find returns the row with a key, and false when there is none. Nothing of it keeps
// the page in memory.
func (gen *generation) find(txn *memdb.Txn, table, key string) (targetRow, bool, error) {
	hash := pageHash(key)
	obj, err := txn.First(table, indexID, pageOf(hash, gen.pageBits))
	if err != nil {
		return targetRow{}, false, fmt.Errorf("look up %s in %s: %w", quote(key), table, err)
	}
	if obj == nil {
		return targetRow{}, false, nil
	}
	p, ok := obj.(*page)
	if !ok {
		return targetRow{}, false, fmt.Errorf("look up %s in %s: found a %T", quote(key), table, obj)
	}
	i, _ := slices.BinarySearchFunc(p.places, hash, func(at place, hash uint32) int { return cmp.Compare(at.hash, hash) })
	for ; i < len(p.places) && p.places[i].hash == hash; i++ {
		if row := p.row(i); row.key == key {
			row.key, row.login = key, strings.Clone(row.login)
			return row, true, nil
		}
	}
	return targetRow{}, false, nil
}

// pageRows walks the rows of pages, in order of hashes and then keys.
type pageRows struct {
	pages memdb.ResultIterator
	page  *page
	at    int // in page, of the next one
	row   targetRow
}

func rowsOf(txn *memdb.Txn, table string) (*pageRows, error) {
	pages, err := txn.Get(table, indexID)
	if err != nil {
		return nil, err
	}
	return &pageRows{pages: pages, page: new(page)}, nil
}

// next returns the next row, nil behind the last. It lasts until the next call.
func (r *pageRows) next() *targetRow {
	for r.at == len(r.page.places) {
		r.page, _ = r.pages.Next().(*page)
		if r.at = 0; r.page == nil {
			r.page = new(page)
			return nil
		}
	}
	r.row = r.page.row(r.at)
	r.at++
	return &r.row
}
