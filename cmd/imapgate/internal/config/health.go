package config

import (
	"errors"
	"os"

	"imapgate/proxy"
)

// watching is how a backend is watched: what its pool says, else what is said of
// all.
func (p *Parsed) watching(in *PoolHealth) Health {
	h := p.Health
	if in == nil {
		return h
	}
	h.Interval = given(in.Interval, h.Interval)
	h.Timeout = given(in.Timeout, h.Timeout)
	h.Rise = given(in.Rise, h.Rise)
	h.Fall = given(in.Fall, h.Fall)
	if in.User.Given() {
		h.User, h.PasswordFile = in.User, in.PasswordFile
	}
	return h
}

func given[T any](v, otherwise Value[T]) Value[T] {
	if v.Given() {
		return v
	}
	return otherwise
}

func (p *Parsed) checkHealth() {
	p.checkUser(p.Health.User, p.Health.PasswordFile)
	from := make(map[string]string) // backend: the pool that says how it is watched
	for i := range p.Pools {
		pool := &p.Pools[i]
		in := pool.V.Health
		if in == nil {
			continue
		}
		p.checkUser(in.User, in.PasswordFile)
		for _, m := range pool.V.Backends {
			if other, ok := from[m.V]; ok {
				p.fail(in.Pos, "remove one of them", "pool %s: health is given for backend %s already, by pool %s", pool.Name.V, m.V, other)
			}
			from[m.V] = pool.Name.V
		}
	}
}

func (p *Parsed) checkUser(user, file Value[string]) {
	switch {
	case user.Given() && !file.Given():
		p.fail(user.Pos, "add password_file", "user without password_file")
	case file.Given() && !user.Given():
		p.fail(file.Pos, "add user", "password_file without user")
	}
}

// checks makes what the proxy is told of watching: for all backends, and for each.
func (c *compiler) checks() (all proxy.Check, each map[string]proxy.Check) {
	all = c.check(c.Health)
	each = make(map[string]proxy.Check, len(c.Backends))
	for i := range c.Backends {
		each[c.Backends[i].Name.V] = all
	}
	for i := range c.Pools {
		pool := &c.Pools[i]
		for _, m := range pool.V.Backends {
			ck := each[m.V]
			pools := append(ck.Pools, pool.Name.V)
			if pool.V.Health != nil {
				ck = c.check(c.watching(pool.V.Health))
			}
			ck.Pools = pools
			each[m.V] = ck
		}
	}
	return all, each
}

func (c *compiler) check(h Health) proxy.Check {
	ck := proxy.Check{Interval: h.Interval.V, Timeout: h.Timeout.V, Rise: h.Rise.V, Fall: h.Fall.V, User: h.User.V}
	if h.User.Given() {
		ck.Password = c.password(h.PasswordFile)
	}
	return ck
}

// stateDir looks at whether there is such a directory. Whether it can be written
// to only a start tells.
func (c *compiler) stateDir() {
	if !c.StateDir.Given() {
		return
	}
	path := c.path(c.StateDir)
	switch info, err := os.Stat(path); {
	case err != nil:
		c.fail(c.StateDir.Pos, plainCause(err, path), "cannot use state_dir %s", path)
	case !info.IsDir():
		c.fail(c.StateDir.Pos, errors.New("it is not a directory"), "cannot use state_dir %s", path)
	}
}
