package user_test

import (
	"fmt"
	"slices"
	"testing"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
)

// pages reads a list to its end.
func pages(t *testing.T, c *kittest.Conn, size int32, filter string, between func(page int)) (ids []string) {
	t.Helper()
	req := &userv1.ListUsersRequest{PageSize: size, Filter: filter}
	for page := 0; ; page++ {
		resp, err := admin(c).ListUsers(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range resp.GetUsers() {
			ids = append(ids, u.GetUserId())
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return ids
		}
		if len(resp.GetUsers()) != int(size) && size > 0 {
			t.Fatalf("page %d has %d users before the end", page, len(resp.GetUsers()))
		}
		if between != nil {
			between(page)
		}
	}
}

func list(t *testing.T, c *kittest.Conn) {
	if ids := pages(t, c, 0, "", nil); len(ids) != 0 {
		t.Errorf("nobody yet: %v", ids)
	}
	var all []string
	for i := range 23 {
		all = append(all, add(t, c, fmt.Sprintf("u%02d", i)).GetUserId())
	}
	for _, size := range []int32{0, 1, 7, 22, 23, 100} {
		if ids := pages(t, c, size, "", nil); !slices.Equal(ids, all) {
			t.Errorf("by %d: %v", size, ids)
		}
	}
	first, err := admin(c).ListUsers(t.Context(), &userv1.ListUsersRequest{})
	if err != nil || len(first.GetUsers()) != 20 {
		t.Errorf("a page of no size has %d users, %v", len(first.GetUsers()), err)
	}
	for _, tt := range []struct {
		filter string
		want   []string
	}{
		{"u1", all[10:20]},
		{"U1", all[10:20]},
		{"User u22", all[22:]},
		{"u05@EXAMPLE", all[5:6]},
		{"example.com", all},
		{"%", nil},
		{"_", nil},
		{`\`, nil},
		{"u05@example.com User", nil}, // One field or the other.
	} {
		if ids := pages(t, c, 3, tt.filter, nil); !slices.Equal(ids, tt.want) {
			t.Errorf("filter %q: %v, want %v", tt.filter, ids, tt.want)
		}
	}
	if _, err := as(c, "u00").UpdateUser(t.Context(), &userv1.UpdateUserRequest{User: &userv1.User{UserId: "u00", DisplayName: "100% ÄRGER_"}}); err != nil {
		t.Fatal(err)
	}
	for _, filter := range []string{"100%", "ärger_"} {
		if ids := pages(t, c, 3, filter, nil); !slices.Equal(ids, []string{"u00"}) {
			t.Errorf("filter %q: %v", filter, ids)
		}
	}
	for _, req := range []*userv1.ListUsersRequest{
		{PageToken: "garbage"},
		{PageToken: first.GetNextPageToken(), Filter: "u"},
		{PageToken: first.GetNextPageToken() + "A"},
	} {
		_, err := admin(c).ListUsers(t.Context(), req)
		kittest.WantField(t, err, "page_token")
	}
	_, err = admin(c).ListUsers(t.Context(), &userv1.ListUsersRequest{PageSize: 101})
	kittest.WantField(t, err, "page_size")
}

// listWhileChanging: what is there all along is listed once, whatever comes and
// goes around it.
func listWhileChanging(t *testing.T, c *kittest.Conn) {
	for i := range 12 {
		add(t, c, fmt.Sprintf("u%02d", i))
	}
	ids := pages(t, c, 2, "", func(page int) {
		if page > 3 {
			return
		}
		add(t, c, fmt.Sprintf("late%d", page))
		gone := fmt.Sprintf("u%02d", 2*page+1) // The last one of the page that was read.
		if _, err := admin(c).DeleteUser(t.Context(), &userv1.DeleteUserRequest{UserId: gone}); err != nil {
			t.Fatal(err)
		}
	})
	want := []string{"u00", "u01", "u02", "u03", "u04", "u05", "u06", "u07", "u08", "u09", "u10", "u11", "late0", "late1", "late2", "late3"}
	if !slices.Equal(ids, want) {
		t.Errorf("listed %v, want %v", ids, want)
	}
}
