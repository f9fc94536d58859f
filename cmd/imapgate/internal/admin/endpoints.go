package admin

import (
	"net/http"
	"reflect"
)

// endpoint is one operation of the API: how it is reached, what goes in and out,
// and what it does. openapi.yaml says the same for people.
type endpoint struct {
	method, path string
	query        []string     // parameters that it knows
	in, out      reflect.Type // in is nil without a body
	long         bool         // may take as long as it needs
	local        bool         // only by the unix socket
	changes      bool         // what a new process has to know of
	serve        func(*Server, *call) (any, error)
}

// endpoints returns the operations that speak JSON. Those that speak something
// else are in routes.
func endpoints() []endpoint {
	return []endpoint{
		get("/v1/status", (*Server).status),
		get("/v1/backends", (*Server).backends),
		get("/v1/sessions", (*Server).sessions, "user", "ip", "backend", "id", "order", "limit"),
		get("/v1/route/{user}", (*Server).route),
		get("/v1/overrides", (*Server).overrides, "kind", "limit"),
		get("/v1/certificates", (*Server).certificates),
		get("/v1/reloads", (*Server).reloads),
		long(post("/v1/certificates/{name}/renew", (*Server).renew)),

		change("/v1/backends/{name}/drain", (*Server).drain),
		change("/v1/backends/{name}/maint", (*Server).maint),
		change("/v1/backends/{name}/ready", (*Server).ready),
		change("/v1/backends/{name}/weight", (*Server).weight),

		change("/v1/users/{user}/pin", (*Server).pin),
		change("/v1/users/{user}/unpin", (*Server).unpin),
		change("/v1/users/{user}/hold", (*Server).hold),
		change("/v1/users/{user}/release", (*Server).release),
		long(change("/v1/users/{user}/move", (*Server).move)),

		long(post("/v1/kick", (*Server).kick)),
		long(post("/v1/reload", (*Server).reload)),
		long(local(post("/v1/upgrade", (*Server).upgrade))),
		long(upload("/v1/diff", (*Server).diff, "name", "replaces", "limit")),
	}
}

// get is an endpoint that changes nothing.
func get[Out any](path string, serve func(*Server, *call) (*Out, error), query ...string) endpoint {
	return endpoint{
		method: http.MethodGet, path: path, query: query, out: reflect.TypeFor[Out](),
		serve: func(s *Server, c *call) (any, error) { return serve(s, c) },
	}
}

// change is an endpoint that changes what outlives this process.
func change[In, Out any](path string, serve func(*Server, *call, *In) (*Out, error)) endpoint {
	e := post(path, serve)
	e.changes = true
	return e
}

// local says that an endpoint is only for who may use the unix socket.
func local(e endpoint) endpoint {
	e.local = true
	return e
}

// post is an endpoint that does something.
func post[In, Out any](path string, serve func(*Server, *call, *In) (*Out, error)) endpoint {
	return endpoint{
		method: http.MethodPost, path: path, in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](),
		serve: func(s *Server, c *call) (any, error) {
			in := new(In)
			if err := c.decode(in); err != nil {
				return nil, err
			}
			return serve(s, c, in)
		},
	}
}

// upload is an endpoint that reads a body of text.
func upload[Out any](path string, serve func(*Server, *call) (*Out, error), query ...string) endpoint {
	e := get(path, serve, query...)
	e.method = http.MethodPost
	return e
}

// long says that an endpoint may take as long as it needs.
func long(e endpoint) endpoint {
	e.long = true
	return e
}
