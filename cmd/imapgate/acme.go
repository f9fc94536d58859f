package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"imapgate/cmd/imapgate/internal/config"
	"imapgate/tlsconf"
)

// startACME obtains certificates as a configuration says, in the place of what did
// so until now. Sessions have no part in it; certificates that are served are served
// on, until there are others.
func (a *app) startACME(ctx context.Context, conf *config.ACMEOptions) {
	old := a.acme.Load()
	if old != nil && conf != nil && old.fingerprint == conf.Fingerprint {
		return
	}
	next, err := a.newACME(conf)
	if err != nil { // the configuration was tried when it was read
		a.log.Error("certificates are obtained as before", zap.Error(err))
		return
	}
	// Both would listen at the same addresses.
	a.stopACME()
	if next != nil {
		next.Start(context.WithoutCancel(ctx))
	}
	a.acme.Store(next)
}

// handOver is how long the process that this one took over from may still have the
// address of the challenge.
const handOver = 10 * time.Second

// stopACME ends what startACME began. Certificates are served on.
func (a *app) stopACME() {
	if old := a.acme.Load(); old != nil {
		old.Close()
	}
}

// runningACME is an ACME, and what it was made from.
type runningACME struct {
	*tlsconf.ACME
	fingerprint string
}

func (a *app) newACME(conf *config.ACMEOptions) (*runningACME, error) {
	if conf == nil {
		return nil, nil //nolint:nilnil // none is an answer
	}
	o := conf.ACMEOptions
	log := a.log.Named("acme")
	o.Log = log
	o.Report = func(r tlsconf.ACMEReport) { logACME(log, r) }
	if a.older != nil {
		o.Patience = handOver
	}
	if len(conf.Labels) > 0 {
		o.OnDemand = func(name string) bool { return a.isRouted(name, conf.Labels) }
	}
	acme, err := tlsconf.NewACME(o)
	if err != nil {
		return nil, err
	}
	return &runningACME{acme, conf.Fingerprint}, nil
}

// isRouted says whether a name is one of the labels in front of a domain that the
// table in force routes as a whole. What strangers can make us order is thereby as
// many names as there are such domains, for each label.
func (a *app) isRouted(name string, labels []string) bool {
	l := a.current.Load()
	if l == nil {
		return false
	}
	if slices.Contains(labels, "@") && l.routing.Table.HasDomain(name) {
		return true
	}
	label, domain, _ := strings.Cut(name, ".")
	return slices.Contains(labels, label) && l.routing.Table.HasDomain(domain)
}

// logACME logs news of certificates, in one line each.
func logACME(log *zap.Logger, r tlsconf.ACMEReport) {
	name := zap.String("name", r.Name)
	switch {
	case r.Name == "" && r.Err != nil:
		log.Error("the CA cannot be answered", zap.Error(r.Err))
	case r.Name == "":
		log.Info("the CA can be answered again")
	case r.Err != nil && r.Renewed:
		log.Warn("certificate not renewed, the old one is served", name, zap.Error(r.Err))
	case r.Err != nil:
		log.Error("certificate not obtained", name, zap.Error(r.Err))
	case r.Renewed:
		log.Info("certificate renewed", name)
	default:
		log.Info("certificate obtained", name)
	}
}
