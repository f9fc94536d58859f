package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
)

func newMove() *cobra.Command {
	m := mover{}
	var until when
	cmd := m.ask.command(&cobra.Command{
		Use:   "move USER BACKEND | move --file FILE BACKEND",
		Short: "Move a user to another backend, without tears",
		Long: `Move a user, or each user of a file, to another backend. For each of them imapgate

  1. lets new logins wait,
  2. tells the user's sessions BYE, each between two responses,
  3. waits until they are gone,
  4. pins the user to the backend,
  5. lets the logins that waited go on, to there.

The user's mail must be there already, or on storage that both share; nothing is
copied. Whatever goes wrong, and an interrupt, leaves the user where they were. A
user whom somebody holds stays held, so that mail can be copied in between.

The pin stays until "imapgate unpin": put the new place into the table, and unpin.

FILE has one user on each line; # begins a comment, and - is the standard input. Some
users are moved at the same time. The exit code is 1 when one of them was not moved.`,
		Example: `  imapgate move alice@example.org mail3 --dry-run
  imapgate move alice@example.org mail3 --why "ticket 4711"
  imapgate move --file users.txt mail3
  grep mail2 users.map | imapgate move --file - mail3`,
		Args:              m.arguments,
		ValidArgsFunction: m.complete,
	}, func(cmd *cobra.Command, c *admin.Client, args []string) error {
		m.in.Backend, m.in.Until, m.in.TimeoutSeconds = args[len(args)-1], until.Time, m.timeout.Seconds()
		if m.file == "" {
			return m.one(cmd, c, args[0])
		}
		users, err := readUsers(cmd, m.file)
		if err != nil {
			return err
		}
		return m.all(cmd, c, users)
	})
	whyFlag(cmd, &m.in.Why)
	untilFlag(cmd, &until)
	cmd.Flags().StringVar(&m.file, "file", "", "move the users of this `file`")
	cmd.Flags().BoolVar(&m.in.DryRun, "dry-run", false, "say what would be done, and change nothing")
	cmd.Flags().DurationVar(&m.timeout, "timeout", 30*time.Second, "how long a user's sessions may take to end")
	return cmd
}

// mover is the command move.
type mover struct {
	ask     asking
	in      admin.MoveRequest
	file    string
	timeout time.Duration
}

func (m *mover) arguments(cmd *cobra.Command, args []string) error {
	if m.file != "" {
		return arguments("BACKEND")(cmd, args)
	}
	return arguments("USER", "BACKEND")(cmd, args)
}

func (m *mover) complete(cmd *cobra.Command, before []string, typed string) ([]string, cobra.ShellCompDirective) {
	if m.file != "" {
		return m.ask.complete(backendNames)(cmd, before, typed)
	}
	return m.ask.complete(userNames, backendNames)(cmd, before, typed)
}

// one moves one user.
func (m *mover) one(cmd *cobra.Command, c *admin.Client, user string) error {
	var out admin.Moved
	if err := c.Post(cmd.Context(), admin.UserPath(user, "move"), m.in, &out); err != nil {
		return err
	}
	return m.ask.print(cmd, out, func(p *printer) { p.printf("%s\n", visible(movedText(&out))) })
}

func movedText(out *admin.Moved) string {
	verb, ends := "moved", "ended"
	if out.DryRun {
		verb, ends = "would move", "would end"
	}
	s := out.User + ": " + verb
	if out.From != "" {
		s += " from " + out.From
	}
	s += fmt.Sprintf(" to %s, %s %s", out.To, ends, count(out.Sessions, "session"))
	if out.Held {
		s += "; still held"
	}
	return s
}

// moveResult is what came of the move of one user.
type moveResult struct {
	User  string       `json:"user"` // as given
	Moved *admin.Moved `json:"moved,omitempty"`
	Error string       `json:"error,omitempty"`

	err error
}

// moveWidth is how many users are moved at the same time.
const moveWidth = 4

// all moves users, and prints what came of each in their order, as soon as it is
// known.
func (m *mover) all(cmd *cobra.Command, c *admin.Client, users []string) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	results := make([]chan moveResult, len(users))
	for i := range results {
		results[i] = make(chan moveResult, 1)
	}
	next := make(chan int)
	for range moveWidth {
		wg.Go(func() {
			for i := range next {
				results[i] <- m.result(ctx, c, users[i])
			}
		})
	}
	wg.Go(func() {
		defer close(next)
		for i := range users {
			select {
			case next <- i:
			case <-ctx.Done():
				results[i] <- moveResult{User: users[i], Error: ctx.Err().Error(), err: ctx.Err()}
			}
		}
	})
	list, failed := make([]moveResult, 0, len(users)), 0
	for _, result := range results {
		r := <-result
		if _, ok := errors.AsType[*admin.UnreachableError](r.err); ok {
			return r.err // the rest would fare no better
		}
		list = append(list, r)
		if r.err != nil {
			failed++
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "imapgate: %s: %v\n", r.User, r.err)
		} else if m.ask.output != "json" {
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), visible(movedText(r.Moved)))
		}
	}
	if m.ask.output == "json" {
		if err := writeJSON(cmd.OutOrStdout(), list); err != nil {
			return err
		}
	}
	if failed > 0 {
		return &exitError{exitFailed, fmt.Errorf("%d of %s not moved", failed, count(len(users), "user"))}
	}
	return nil
}

func (m *mover) result(ctx context.Context, c *admin.Client, user string) moveResult {
	r := moveResult{User: user, Moved: new(admin.Moved)}
	if r.err = c.Post(ctx, admin.UserPath(user, "move"), m.in, r.Moved); r.err != nil {
		r.Moved, r.Error = nil, r.err.Error()
	}
	return r
}

// readUsers reads the first word of each line: a table will do.
func readUsers(cmd *cobra.Command, name string) ([]string, error) {
	f, err := readArgument(cmd, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var users []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if words := strings.Fields(line); len(words) > 0 {
			users = append(users, words[0])
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(users) == 0 {
		return nil, &exitError{exitUsage, fmt.Errorf("%s names no user", name)}
	}
	return users, nil
}
