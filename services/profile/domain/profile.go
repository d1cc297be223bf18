// Package domain is what a profile and a picture are, and what of them is
// allowed. It knows neither gRPC messages nor SQL: profile/server and
// profile/store translate.
package domain

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/services/kit"
)

// Profile is what a user shows.
type Profile struct {
	UserID, Bio, Location, Website string
	Languages                      []string
	// Links are URLs by their names.
	Links     map[string]string
	HasAvatar bool
	// Revision counts the profile's versions, from 1; 0 is a profile that is not
	// there yet.
	Revision int64
	// Created and Updated are to the microsecond, in UTC.
	Created, Updated time.Time
}

// Etag returns the version of p.
func (p Profile) Etag() string { return kit.Etag(p.Revision, p.Created) }

// CheckEtag is ABORTED unless etag is empty or that of p. A profile that is not
// there yet has none.
func (p Profile) CheckEtag(etag string) error {
	if etag != "" && (p.Revision == 0 || etag != p.Etag()) {
		return kit.StaleEtag("the profile")
	}
	return nil
}

// Same reports whether p and o show the same.
func (p Profile) Same(o Profile) bool {
	return p.Bio == o.Bio && p.Location == o.Location && p.Website == o.Website && p.HasAvatar == o.HasAvatar &&
		slices.Equal(p.Languages, o.Languages) && maps.Equal(p.Links, o.Links)
}

// CheckLinks is INVALID_ARGUMENT for a link that a browser would run or read from
// its own machine rather than follow: anybody may be shown it.
func CheckLinks(links map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(links)) {
		u, err := url.Parse(links[name])
		if err != nil || !slices.Contains([]string{"http", "https", "mailto"}, u.Scheme) {
			return kit.InvalidField(fmt.Sprintf("profile.links[%q]", name), "link", "must be an http, https or mailto URL")
		}
	}
	return nil
}
