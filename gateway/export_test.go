package gateway

import "time"

// TLSRefresh is how often the files of listeners are looked at.
func TLSRefresh(d time.Duration) Option { return func(o *options) { o.tlsRefresh = d } }
