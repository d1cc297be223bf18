package httpedge

import "context"

// Protocol is one way to call over HTTP. Protocols stand beside each other: none knows
// another, and the order in which the Server asks them is the order of precedence.
type Protocol interface {
	// Serve answers a request of the protocol's, and says whether it was one; what is not,
	// it must leave as it is. Path is the one string that routing and policy read,
	// normalized and decoded. The request has been counted and bounded and has passed the
	// arrival checks; of what follows, the protocol says when: CrossSite and Admit before
	// anything of the body is read. What it has not answered when it returns true is
	// answered 200 without a body. Safe for concurrent use.
	Serve(ctx context.Context, x *Exchange, path string) bool
}
