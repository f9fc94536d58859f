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

		post("/v1/backends/{name}/drain", (*Server).drain),
		post("/v1/backends/{name}/maint", (*Server).maint),
		post("/v1/backends/{name}/ready", (*Server).ready),
		post("/v1/backends/{name}/weight", (*Server).weight),

		post("/v1/users/{user}/pin", (*Server).pin),
		post("/v1/users/{user}/unpin", (*Server).unpin),
		post("/v1/users/{user}/hold", (*Server).hold),
		post("/v1/users/{user}/release", (*Server).release),
		long(post("/v1/users/{user}/move", (*Server).move)),

		long(post("/v1/kick", (*Server).kick)),
		long(post("/v1/reload", (*Server).reload)),
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

// post is an endpoint that changes something.
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
