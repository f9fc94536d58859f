//go:build linux

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// nginxModule is where Debian's libnginx-mod-mail puts it.
const nginxModule = "/usr/lib/nginx/modules/ngx_mail_module.so"

// target is something that is measured.
type target struct {
	name       string
	template   string // of its configuration; "": the backend itself, with TLS
	program    string // looked for in PATH and where Debian has servers
	version    string // what makes it print that
	arguments  func(p parameters, conf string) []string
	bigBuffers bool
	authHTTP   bool // it needs that beside it
	backendTLS bool // it can speak TLS to backends
	peer       bool // imapgate is compared with it
	admin      bool // it can be told to reload
}

// ours is the name of the target that the others are compared with.
const ours = "imapgate"

// limit is the name of the target without a proxy.
const limit = "direct"

func nginxArguments(p parameters, conf string) []string { return []string{"-p", p.Dir, "-c", conf} }

func haproxyArguments(_ parameters, conf string) []string { return []string{"-db", "-f", conf} }

// targets returns all that there are; imapgate is the path of its binary.
func targets(imapgate string) []target {
	return []target{
		{
			name: ours, template: "imapgate.yaml", program: imapgate, version: "version", backendTLS: true, admin: true,
			arguments: func(_ parameters, conf string) []string { return []string{"serve", "-c", conf} },
		},
		{name: "nginx", template: "nginx.conf", program: "nginx", version: "-v", arguments: nginxArguments, authHTTP: true, peer: true},
		{name: "nginx-buf64", template: "nginx.conf", program: "nginx", version: "-v", arguments: nginxArguments, authHTTP: true, peer: true, bigBuffers: true},
		{name: "haproxy", template: "haproxy.cfg", program: "haproxy", version: "-v", arguments: haproxyArguments, backendTLS: true, peer: true},
		{name: "haproxy-buf64", template: "haproxy.cfg", program: "haproxy", version: "-v", arguments: haproxyArguments, backendTLS: true, peer: true, bigBuffers: true},
		{
			name: "dovecot", template: "dovecot.conf", program: "dovecot", version: "--version", backendTLS: true, peer: true,
			arguments: func(_ parameters, conf string) []string { return []string{"-F", "-c", conf} },
		},
		{name: limit},
	}
}

// TargetNames lists the targets.
func TargetNames() []string {
	var names []string
	for _, t := range targets("") {
		names = append(names, t.name)
	}
	return names
}

// find returns the path of the target's program.
func (t *target) find() (string, error) {
	if strings.Contains(t.program, "/") {
		if info, err := os.Stat(t.program); err != nil || info.IsDir() {
			return "", fmt.Errorf("%s: no such program", t.program)
		}
		return filepath.Abs(t.program)
	}
	if path, err := exec.LookPath(t.program); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		path := filepath.Join(dir, t.program)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: apt-get install %s", t.program, debianPackages[t.program])
}

var debianPackages = map[string]string{
	"nginx": "nginx libnginx-mod-mail", "haproxy": "haproxy", "dovecot": "dovecot-imapd",
}

// chosen returns those of all whose names are listed, or all.
func chosen[T any](all []T, names []string, name func(T) string) ([]T, error) {
	if len(names) == 0 {
		return all, nil
	}
	var some []T
	for _, wanted := range names {
		found := false
		for _, one := range all {
			if name(one) == wanted {
				some, found = append(some, one), true
			}
		}
		if !found {
			return nil, fmt.Errorf("%q is not one of those that there are", wanted)
		}
	}
	return some, nil
}
