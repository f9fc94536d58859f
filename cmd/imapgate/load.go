package main

import (
	"context"
	"errors"

	"imapgate/cmd/imapgate/internal/config"
)

// loaded is a configuration, and the table it speaks of: what a reload puts in
// force.
type loaded struct {
	conf    *config.Compiled
	routing *config.Routing
}

// load reads everything that a configuration file names. It changes nothing;
// check does the same as a reload because both call it. inForce is what a reload
// replaces, nil otherwise. The error tells of all mistakes.
func load(ctx context.Context, path string, get config.GetCertificate, inForce *config.Routing) (*loaded, error) {
	parsed, err := config.Load(path, config.System())
	if err != nil {
		return nil, err
	}
	conf, err := parsed.Compile(get)
	routing, tableErr := parsed.LoadTable(ctx, inForce)
	if err == nil && tableErr == nil {
		conf.Proxy.Router = routing.Table
		conf.Proxy.Health = routing.Table.State()
		return &loaded{conf, routing}, nil
	}
	var all, more config.Errors
	if err != nil && !errors.As(err, &all) {
		return nil, err
	}
	if tableErr != nil && !errors.As(tableErr, &more) {
		return nil, tableErr
	}
	return nil, append(all, more...)
}
