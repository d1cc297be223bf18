//go:build unix

package main

import (
	"os"
	"syscall"
)

// replaceSignals put a new process in this one's place.
var replaceSignals = []os.Signal{syscall.SIGUSR2}
