package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"imapgate/proxy"
)

// whole is the proxy together with that of the old process, whose sessions live on
// after an upgrade.
type whole struct {
	*proxy.Server
	older *predecessor // nil: there is none
}

func (a *app) whole() whole { return whole{a.server, a.older} }

// Sessions returns the sessions of both, oldest first.
func (w whole) Sessions() []proxy.SessionInfo { return w.sessionsOf("") }

// sessionsOf returns the sessions of a user, "" for all.
func (w whole) sessionsOf(user string) []proxy.SessionInfo {
	list := w.Server.Sessions()
	if user != "" {
		list = slices.DeleteFunc(list, func(i proxy.SessionInfo) bool { return i.User != user })
	}
	more := w.older.sessions(user)
	if len(more) == 0 {
		return list
	}
	list = append(list, more...)
	slices.SortFunc(list, func(a, b proxy.SessionInfo) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Kick ends sessions of both, first those of the old process.
func (w whole) Kick(ctx context.Context, match func(proxy.SessionInfo) bool, o proxy.KickOptions) (int, error) {
	there := w.older.kick(ctx, "", match, o)
	if err := ctx.Err(); err != nil {
		return there, err
	}
	here, err := w.Server.Kick(ctx, match, o)
	return there + here, err
}

// answerTimeout bounds the wait for what the old process knows.
const answerTimeout = 10 * time.Second

// sessions returns the sessions of the old process, none when there is none.
func (p *predecessor) sessions(user string) []proxy.SessionInfo {
	if p.describe() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	m, err := p.link.ask(ctx, message{Who: &user})
	if err != nil {
		p.log.Warn("the old process does not tell its sessions", zap.Error(err))
		return nil
	}
	for i := range m.Sessions {
		if m.Sessions[i].PID == 0 {
			m.Sessions[i].PID = p.estate.PID
		}
	}
	return m.Sessions
}

// kick ends sessions of the old process, those of one user or "" for all, that
// match.
func (p *predecessor) kick(ctx context.Context, user string, match func(proxy.SessionInfo) bool, o proxy.KickOptions) int {
	var ids []string
	for _, i := range p.sessions(user) {
		if i.Ending == "" && match(i) {
			ids = append(ids, i.ID)
		}
	}
	if len(ids) == 0 {
		return 0
	}
	m, err := p.link.ask(ctx, message{Kick: &eviction{IDs: ids, KickOptions: o}})
	if errors.Is(err, errLinkLost) {
		return len(ids) // they were its last ones, and it ended with them
	}
	if err != nil {
		p.log.Warn("the old process does not say how many sessions it ended", zap.Error(err))
	}
	return m.Kicked
}
