// Command sluice is the gateway as a program.
package main

import (
	"fmt"
	"os"
	"strings"
)

// command is a subcommand; run gets the arguments after its name.
type command struct {
	name, args, help string
	run              func(args []string) error
}

func commands() []command {
	return []command{
		{"serve", "[--config FILE|etcd://HOST/KEY] [--demo]", "run the gateway", serve},
		{"token", "--subject NAME [--scope \"S …\"] [--ttl 1h]", "print a token of the development key", token},
		{"keys rotate", "[--settle 30s] [--retire] [--public DIR]", "replace the key of the assertions while all runs", keysRotate},
		{"keys retire", "[--settle 30s] [--public DIR]", "take away what an earlier rotation left", keysRetire},
		{"keys", "[--out DIR] [--public DIR]", "make the key pair of the assertions to the services", keys},
		{"apikey create", "--owner NAME [--scope \"S …\"] [--expires 90d]", "print a new API key, and what to store of it", apikeyCreate},
		{"config check", "FILE", "check a configuration file", configCheck},
		{"config diff", "FROM TO | TO [--admin HOST:PORT]", "say what a configuration changes, and what of it needs a restart", configDiff},
		{"routes", "[--config FILE] [--format text|json]", "print every route with its rule and limits", routes},
		{"explain", "METHOD PATH | SERVICE/METHOD [flags]", "say what would happen to a request, and why", explain},
		{"version", "", "print the version", version},
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sluice:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	for _, c := range commands() {
		words := strings.Fields(c.name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == c.name {
			return c.run(args[len(words):])
		}
	}
	usage()
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		return nil
	}
	return fmt.Errorf("no command %q", args[0])
}

func usage() {
	fmt.Fprintln(os.Stderr, "Sluice, a REST-to-gRPC gateway.\n\nusage:")
	for _, c := range commands() {
		fmt.Fprintf(os.Stderr, "  sluice %-13s %-45s %s\n", c.name, c.args, c.help)
	}
	fmt.Fprintln(os.Stderr, "\nenvironment: SLUICE_CONFIG SLUICE_HTTP_ADDR SLUICE_GRPC_ADDR SLUICE_ADMIN_ADDR SLUICE_DATA_DIR OTEL_*")
}
