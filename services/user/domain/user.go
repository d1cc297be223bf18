// Package domain is what a user is and which changes of one are allowed. It knows
// neither gRPC messages nor SQL: user/server and user/store translate.
package domain

import (
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/services/kit"
)

// User is an account.
type User struct {
	ID          string
	Email       string
	DisplayName string
	// Phone is "" for none.
	Phone string
	// Revision counts the user's versions, from 1.
	Revision int64
	// Created and Updated are to the microsecond, in UTC.
	Created, Updated time.Time
}

// Etag returns the version of u.
func (u User) Etag() string { return kit.Etag(u.Revision, u.Created) }

// CheckEtag is ABORTED unless etag is empty or that of u.
func (u User) CheckEtag(etag string) error {
	if etag != "" && etag != u.Etag() {
		return kit.StaleEtag("the user")
	}
	return nil
}

// Fold returns the form of a text in which case does not count. It is made here
// and not in SQL, where the engines fold differently beyond ASCII.
func Fold(s string) string { return strings.ToLower(s) }

// Change is a change of a user: nil leaves a field as it is.
type Change struct {
	Email, DisplayName, Phone *string
}

// Apply returns u with the change made. The e-mail address cannot be taken away.
func (c Change) Apply(u User) (User, error) {
	if c.Email != nil {
		if *c.Email == "" {
			return User{}, kit.InvalidField("user.email", "required", "cannot be empty")
		}
		u.Email = *c.Email
	}
	if c.DisplayName != nil {
		u.DisplayName = *c.DisplayName
	}
	if c.Phone != nil {
		u.Phone = *c.Phone
	}
	return u, nil
}
