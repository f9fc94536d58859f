package main

import (
	"context"
	"errors"

	"imapgate/cmd/imapgate/internal/admin"
	"imapgate/cmd/imapgate/internal/config"
)

// loaded is a configuration, and the table it speaks of: what a reload puts in
// force.
type loaded struct {
	conf    *config.Compiled
	routing *config.Routing
	tokens  *admin.Tokens // nil: none are needed
}

// load reads everything that a configuration file names. It changes nothing;
// check does the same as a reload because both call it. inForce is what a reload
// replaces, nil otherwise; with force, a table may have lost most of its rows. The
// error tells of all mistakes.
func load(ctx context.Context, path string, get config.GetCertificate, inForce *config.Routing, force bool) (*loaded, error) {
	parsed, err := config.Load(path, config.System())
	if err != nil {
		return nil, err
	}
	conf, err := parsed.Compile(get)
	tokens, tokenErr := loadTokens(parsed)
	routing, tableErr := parsed.LoadTable(ctx, inForce, force)
	if err == nil && tokenErr == nil && tableErr == nil {
		conf.Proxy.Router = routing.Table
		conf.Proxy.Health = routing.Table.State()
		return &loaded{conf, routing, tokens}, nil
	}
	var all config.Errors
	for _, err := range []error{err, tokenErr, tableErr} {
		var more config.Errors
		if err != nil && !errors.As(err, &more) {
			return nil, err
		}
		all = append(all, more...)
	}
	return nil, all
}

// loadLastGood is load at a start after a crash, say, where the table files alone are
// no good: it takes the copies of the last good ones that state_dir keeps. It returns
// nil when something else is wrong, or there are none.
func loadLastGood(ctx context.Context, path string, get config.GetCertificate) *loaded {
	parsed, err := config.Load(path, config.System())
	if err != nil {
		return nil
	}
	conf, err := parsed.Compile(get)
	tokens, tokenErr := loadTokens(parsed)
	routing, tableErr := parsed.LastGoodTable(ctx)
	if err != nil || tokenErr != nil || tableErr != nil {
		return nil
	}
	conf.Proxy.Router = routing.Table
	conf.Proxy.Health = routing.Table.State()
	return &loaded{conf, routing, tokens}
}

// loadTokens reads the tokens of the admin API.
func loadTokens(parsed *config.Parsed) (*admin.Tokens, error) {
	path := parsed.TokenPath()
	if path == "" {
		return nil, nil //nolint:nilnil // none is an answer
	}
	tokens, err := admin.ReadTokens(path)
	if err != nil {
		return nil, parsed.Fail(parsed.Admin.TokenFile.Pos, err, "admin.token_file cannot be used")
	}
	return tokens, nil
}
