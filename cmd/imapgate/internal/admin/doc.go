// Package admin is what people and machines see of a running imapgate, and how
// people change it: an HTTP API with JSON, metrics, health, and a web page.
//
//	admin socket ── 0660, who asks is known (SO_PEERCRED) ──┐
//	TCP ── bearer token, or loopback alone ── Host, Origin ──┴─ endpoints.go ─┬─ status.go     GET what there is
//	                                                                          ├─ backends.go   drain, maint, ready, weight
//	                                                                          ├─ users.go      pin, hold, and move.go
//	                                                                          ├─ sessions.go   who, kick
//	                                                                          ├─ reload.go     reload, diff
//	                                                                          └─ events.go     the status again and again
//
// The endpoints are one list, in endpoints.go, and openapi.yaml describes them: a
// test compares the two, field by field. What changes goes to the routing table's
// [route.State], which keeps it, and to the proxy, which ends sessions. Nothing
// is kept here: the timers of drains with a deadline begin anew with the process.
//
// [Client] is the other end: the commands of imapgate speak through it.
package admin
