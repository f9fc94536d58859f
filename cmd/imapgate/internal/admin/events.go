package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const (
	eventInterval = time.Second      // between events when something changes
	eventSilence  = 15 * time.Second // after which one is sent all the same
	eventTimeout  = 10 * time.Second // for who reads slowly
	maxWatchers   = 64
)

// events sends the status whenever it changes, as server-sent events.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if s.watchers.Add(1) > maxWatchers {
		s.watchers.Add(-1)
		s.fail(w, r, failf(http.StatusServiceUnavailable, "more than %d watch already", maxWatchers))
		return
	}
	defer s.watchers.Add(-1)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	tick := time.NewTicker(eventInterval)
	defer tick.Stop()
	var last []byte
	var sent time.Time
	for id := 1; ; {
		data, compared, err := s.event()
		if err != nil {
			return
		}
		if now := time.Now(); !bytes.Equal(compared, last) || now.Sub(sent) >= eventSilence {
			_ = control.SetWriteDeadline(now.Add(eventTimeout))
			if _, err := fmt.Fprintf(w, "id: %d\nevent: status\ndata: %s\n\n", id, data); err != nil {
				return
			}
			if control.Flush() != nil {
				return
			}
			last, sent = compared, now
			id++
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// view is an event as all who watch get it.
type view struct {
	at       time.Time
	data     []byte
	compared []byte // data without what changes by itself
}

// event returns what is to be seen now. It is made once for all who watch.
func (s *Server) event() (data, compared []byte, err error) {
	s.viewMu.Lock()
	defer s.viewMu.Unlock()
	if now := time.Now(); s.view.data == nil || now.Sub(s.view.at) >= eventInterval/2 {
		e := s.look()
		v := view{at: now}
		if v.data, err = json.Marshal(e); err != nil {
			return nil, nil, err
		}
		e.Status.Now = time.Time{}
		if v.compared, err = json.Marshal(e); err != nil {
			return nil, nil, err
		}
		s.view = v
	}
	return s.view.data, s.view.compared, nil
}
