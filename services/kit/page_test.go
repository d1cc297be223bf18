package kit_test

import (
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	"github.com/sluice-gateway/sluice/services/kit"
)

func TestPageToken(t *testing.T) {
	place := kit.Cursor{Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), ID: "ada"}
	token := kit.PageToken(place, "ListUsers", "filter")
	got, err := kit.ParsePageToken(token, "ListUsers", "filter")
	if err != nil || !got.Time.Equal(place.Time) || got.ID != place.ID {
		t.Fatalf("ParsePageToken = %v, %v, want %v", got, err, place)
	}
	if c, err := kit.ParsePageToken("", "ListUsers"); err != nil || !c.IsZero() {
		t.Errorf("an empty token = %v, %v, want the beginning", c, err)
	}
	for name, bad := range map[string]struct {
		token  string
		params []string
	}{
		"other params":        {token, []string{"ListUsers", "other"}},
		"params run together": {token, []string{"ListUsersfilter"}},
		"params moved":        {token, []string{"ListUser", "sfilter"}},
		"another list":        {token, []string{"ListOrders", "filter"}},
		"no params":           {token, nil},
		"not base64":          {"!!!", []string{"ListUsers", "filter"}},
		"padded":              {token + "=", []string{"ListUsers", "filter"}},
		"cut":                 {token[:len(token)/2], []string{"ListUsers", "filter"}},
		"one byte":            {"AQ", []string{"ListUsers", "filter"}},
		"an id of no id":      {kit.PageToken(kit.Cursor{ID: "a'; --"}, "x"), []string{"x"}},
		"no id":               {kit.PageToken(kit.Cursor{}, "x"), []string{"x"}},
		"a long id":           {kit.PageToken(kit.Cursor{ID: strings.Repeat("a", 64)}, "x"), []string{"x"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := kit.ParsePageToken(bad.token, bad.params...)
			wantViolation(t, err, "page_token", "page_token")
		})
	}
}

// FuzzPageToken: what is taken for a token was made by us, or is spelt as if.
func FuzzPageToken(f *testing.F) {
	f.Add(kit.PageToken(kit.Cursor{Time: time.Unix(1, 0), ID: "ada"}, "q"), "q")
	f.Add(kit.PageToken(kit.Cursor{Time: time.Time{}, ID: "a-0_1"}, ""), "")
	f.Add("AQ", "q")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte("\x01aaaaaaaa\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01a")), "q")
	id := regexp.MustCompile(`^[a-z0-9_-]{1,63}$`)
	f.Fuzz(func(t *testing.T, token, param string) {
		c, err := kit.ParsePageToken(token, param)
		if err != nil {
			if !c.IsZero() {
				t.Fatalf("a refused token names %v", c)
			}
			return
		}
		if token == "" {
			return
		}
		if !id.MatchString(c.ID) {
			t.Fatalf("token %q has id %q", token, c.ID)
		}
		again, err := kit.ParsePageToken(kit.PageToken(c, param), param)
		if err != nil || !again.Time.Equal(c.Time) || again.ID != c.ID {
			t.Fatalf("%v came back as %v, %v", c, again, err)
		}
		if _, err := kit.ParsePageToken(token, param+"x"); err == nil {
			t.Fatal("the token passes for another query")
		}
	})
}

func TestPageSize(t *testing.T) {
	for asked, want := range map[int32]int{-1: 20, 0: 20, 1: 1, 20: 20, 100: 100, 101: 100} {
		if got := kit.PageSize(asked); got != want {
			t.Errorf("PageSize(%d) = %d, want %d", asked, got, want)
		}
	}
}

func TestUpdateMask(t *testing.T) {
	phone := ""
	user := &userv1.User{UserId: "ada", Email: "ada@example.com", Phone: &phone, Etag: "x"}
	for _, tt := range []struct {
		name  string
		paths []string
		want  string // comma separated; "!" for refused
	}{
		{"empty: the populated mutable fields", nil, "email,phone"},
		{"named", []string{"display_name"}, "display_name"},
		{"named twice", []string{"email", "email"}, "email"},
		{"all", []string{"*"}, "email,display_name,phone"},
		{"all and more", []string{"*", "email"}, "!"},
		{"the etag is no change", []string{"etag", "phone"}, "phone"},
		{"the id and what the service sets are no change", []string{"email", "user_id", "create_time"}, "email"},
		{"nothing but what the service sets", []string{"update_time"}, ""},
		{"unknown", []string{"shoe_size"}, "!"},
		{"below a scalar", []string{"email.domain"}, "!"},
		{"the name in JSON", []string{"displayName"}, "!"},
		{"an empty path, as PATCH {} sends it", []string{""}, ""},
		{"an empty path and more", []string{"", "email"}, "!"},
		{"two empty paths", []string{"", ""}, "!"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mask, err := kit.UpdateMask(&fieldmaskpb.FieldMask{Paths: tt.paths}, user, "email", "display_name", "phone")
			if tt.want == "!" {
				wantViolation(t, err, "update_mask", "update_mask")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := strings.FieldsFunc(tt.want, func(r rune) bool { return r == ',' })
			for _, w := range want {
				if !mask[w] {
					t.Errorf("mask %v lacks %s", mask, w)
				}
			}
			if len(mask) != len(want) {
				t.Errorf("mask = %v, want %v", mask, want)
			}
		})
	}
}

func TestNewID(t *testing.T) {
	pattern := regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	seen := make(map[string]bool)
	for range 1000 {
		id := kit.NewID()
		if !pattern.MatchString(id) || seen[id] {
			t.Fatalf("NewID = %q", id)
		}
		seen[id] = true
	}
}

func TestEtag(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tags := map[string]bool{}
	for _, tag := range []string{kit.Etag(1, at), kit.Etag(2, at), kit.Etag(1, at.Add(time.Microsecond)), kit.Etag(300, at)} {
		if tags[tag] || len(tag) > 64 || tag == "" {
			t.Errorf("etag %q is not one version's", tag)
		}
		tags[tag] = true
	}
	if kit.Etag(1, at) != kit.Etag(1, at) {
		t.Error("one version has two etags")
	}
}
