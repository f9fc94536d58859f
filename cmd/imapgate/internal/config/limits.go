package config

import "imapgate/proxy"

// checkLimits looks for bounds that another one leaves without effect.
func (p *Parsed) checkLimits() {
	l := &p.Limits
	within := func(part, all Value[int], partName, allName string) {
		if part.Given() && all.V > 0 && part.V > all.V {
			p.fail(part.Pos, "it bounds a part of what "+allName+" bounds", "%s %d is more than %s %d", partName, part.V, allName, all.V)
		}
	}
	within(l.UnauthenticatedPerAddress, l.ConnectionsPerAddress, "unauthenticated_per_address", "connections_per_address")
	within(l.SessionsPerUserAndAddress, l.SessionsPerUser, "sessions_per_user_and_address", "sessions_per_user")
	within(l.ConnectionsPerAddress, l.Connections, "connections_per_address", "connections")
}

// limits makes what the proxy is told of them.
func (c *compiler) limits() proxy.Limits {
	l := &c.Limits
	return proxy.Limits{
		Connections:               l.Connections.V,
		ConnectionsPerAddress:     l.ConnectionsPerAddress.V,
		UnauthenticatedPerAddress: l.UnauthenticatedPerAddress.V,
		SessionsPerUser:           l.SessionsPerUser.V,
		SessionsPerUserAddress:    l.SessionsPerUserAndAddress.V,
		AcceptRate:                l.AcceptRate.V,
	}
}
