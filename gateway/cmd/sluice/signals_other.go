//go:build !unix

package main

import "os"

// replaceSignals are none: sockets cannot be handed on here.
var replaceSignals []os.Signal
