// Package sight holds what operators look at to what gateways show: docs/metrics.md
// to what running gateways with every feature on expose, the alert rules and the
// dashboards of deploy/ to a real Prometheus that has scraped them under load.
package sight
