package tlsconf

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Rotation is what [RotateTicketKeys] did.
type Rotation struct {
	Created  bool // there was no file
	InUse    bool // a new key makes tickets now, which a file without a next key has none of
	Previous int  // keys that still open tickets
}

// RotateTicketKeys puts the next key of a file in use, keeps the last keys that
// were in use, as many as asked for, and adds a new next one. A file that does not
// exist is made, for its owner alone; one that does keeps its owner and
// permissions. It is replaced as a whole.
func RotateTicketKeys(file string, keep int, now time.Time) (Rotation, error) {
	old, err := readTicketKeys(file)
	var done Rotation
	switch {
	case errors.Is(err, fs.ErrNotExist):
		old, done.Created, done.InUse = &ticketSet{keys: []ticketKey{newTicketKey(currentKey, now)}}, true, true
	case err != nil:
		return Rotation{}, err
	}
	next := newTicketKey(nextKey, now)
	keys := []ticketKey{next}
	for _, key := range old.keys {
		if key.role == nextKey {
			key.role = currentKey
			keys = append(keys, key)
			done.InUse = true
		}
	}
	for _, key := range old.keys {
		switch {
		case key.role == nextKey:
			continue
		case key.role == currentKey && (done.Created || !done.InUse):
		case done.Previous == keep:
			continue
		default:
			key.role = previousKey
			done.Previous++
		}
		keys = append(keys, key)
	}
	return done, writeTicketKeys(file, keys)
}

// writeTicketKeys replaces a file, or what a link leads to.
func writeTicketKeys(file string, keys []ticketKey) error {
	var text bytes.Buffer
	defer func() { clear(text.Bytes()) }()
	text.WriteString("# The keys of imapgate's session tickets. Keep them as secret as a private key;\n" +
		"# `imapgate ticket-key rotate` writes this file.\n")
	for _, key := range keys {
		fmt.Fprintf(&text, "%-8s  %s  %s\n", key.role, key.made.Format(time.RFC3339), base64.StdEncoding.EncodeToString(key.secret[:]))
	}
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	if err := replaceFile(file, text.Bytes()); err != nil {
		return fmt.Errorf("write session ticket keys: %w", err)
	}
	return nil
}

// replaceFile writes a file beside the one that is there and renames it into
// place, so that readers see the one or the other.
func replaceFile(file string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".") // readable by its owner alone
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	if err := likeBefore(tmp, file); err != nil {
		return errors.Join(err, tmp.Close())
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
