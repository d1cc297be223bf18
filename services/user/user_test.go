package user_test

import (
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	"github.com/sluice-gateway/sluice/services/kit/dbtest"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
	"github.com/sluice-gateway/sluice/services/user"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestService(t *testing.T) {
	kittest.Suite(t, func(t *testing.T, e dbtest.Engine, transport string) {
		for _, tt := range []struct {
			name string
			test func(*testing.T, *kittest.Conn)
		}{
			{"create", create},
			{"create again with one request_id", createAgain},
			{"e-mail addresses belong to one", emails},
			{"get", get},
			{"update", update},
			{"update by mask", updateByMask},
			{"concurrent updates", concurrentUpdates},
			{"delete", deleteUser},
			{"list", list},
			{"list while users come and go", listWhileChanging},
			{"batch get", batchGet},
			{"who may", whoMay},
		} {
			t.Run(tt.name, func(t *testing.T) { tt.test(t, serve(t, e.DSN(t), transport)) })
		}
		t.Run("seed", func(t *testing.T) { seed(t, e.DSN(t), transport) })
		t.Run("two processes", func(t *testing.T) { twoProcesses(t, e.DSN(t), transport) })
	})
}

func serve(t *testing.T, dsn, transport string) *kittest.Conn {
	t.Helper()
	s, err := user.Open(t.Context(), dsn, slog.New(slog.DiscardHandler))
	return kittest.ServeService(t, transport, s, err)
}

func admin(c *kittest.Conn) userv1.UserServiceClient {
	return userv1.NewUserServiceClient(c.As("root", "admin"))
}

func as(c *kittest.Conn, subject string) userv1.UserServiceClient {
	return userv1.NewUserServiceClient(c.As(subject, "users.read", "users.write"))
}

func add(t *testing.T, c *kittest.Conn, id string) *userv1.User {
	t.Helper()
	u, err := admin(c).CreateUser(t.Context(), &userv1.CreateUserRequest{
		UserId: id, User: &userv1.User{Email: id + "@example.com", DisplayName: "User " + id, Phone: proto.String("+441632960000")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func wantEqual(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
}

func create(t *testing.T, c *kittest.Conn) {
	u := add(t, c, "ada")
	if u.GetUserId() != "ada" || u.GetEtag() == "" || !u.GetCreateTime().IsValid() || u.GetCreateTime().AsTime().Nanosecond()%1000 != 0 {
		t.Errorf("created %v", u)
	}
	stored, err := admin(c).GetUser(t.Context(), &userv1.GetUserRequest{UserId: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, stored, u)

	made, err := admin(c).CreateUser(t.Context(), &userv1.CreateUserRequest{User: &userv1.User{Email: "x@example.com"}})
	if err != nil || !regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`).MatchString(made.GetUserId()) || made.Phone != nil {
		t.Errorf("created with an id of the service's: %v, %v", made, err)
	}

	for _, tt := range []struct {
		field string
		req   *userv1.CreateUserRequest
	}{
		{"user.email", &userv1.CreateUserRequest{User: &userv1.User{DisplayName: "x"}}},
		{"user.user_id", &userv1.CreateUserRequest{User: &userv1.User{UserId: "b", Email: "b@example.com"}}},
		{"user_id", &userv1.CreateUserRequest{UserId: "B!", User: &userv1.User{Email: "b@example.com"}}},
		{"user.email", &userv1.CreateUserRequest{User: &userv1.User{Email: "nonsense"}}},
		{"user.phone", &userv1.CreateUserRequest{User: &userv1.User{Email: "b@example.com", Phone: proto.String("12")}}},
		{"user.display_name", &userv1.CreateUserRequest{User: &userv1.User{Email: "b@example.com", DisplayName: "a\x00b"}}},
	} {
		_, err := admin(c).CreateUser(t.Context(), tt.req)
		kittest.WantField(t, err, tt.field)
	}
	_, err = admin(c).CreateUser(t.Context(), &userv1.CreateUserRequest{UserId: "ada", User: &userv1.User{Email: "b@example.com"}})
	if st := kittest.WantCode(t, err, codes.AlreadyExists); !strings.Contains(st.Message(), `"ada"`) {
		t.Errorf("message %q does not name the id", st.Message())
	}
}

func createAgain(t *testing.T, c *kittest.Conn) {
	req := &userv1.CreateUserRequest{User: &userv1.User{Email: "ada@example.com"}, RequestId: "key-1"}
	first, err := as(c, "boss").CreateUser(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var header metadata.MD
	again, err := as(c, "boss").CreateUser(t.Context(), req, grpc.Header(&header))
	if err != nil || !slices.Equal(header.Get("idempotency-replayed"), []string{"true"}) {
		t.Fatalf("replay: %v, header %v", err, header)
	}
	wantEqual(t, again, first)
	_, err = as(c, "boss").CreateUser(t.Context(), &userv1.CreateUserRequest{User: &userv1.User{Email: "b@example.com"}, RequestId: "key-1"})
	kittest.WantReason(t, err, codes.Aborted, "IDEMPOTENCY_KEY_REUSED")
	// Somebody else's key is another key.
	header = nil // In-process, a call without headers leaves the variable as it is.
	_, err = as(c, "other").CreateUser(t.Context(), &userv1.CreateUserRequest{User: &userv1.User{Email: "b@example.com"}, RequestId: "key-1"}, grpc.Header(&header))
	if err != nil || len(header.Get("idempotency-replayed")) != 0 {
		t.Errorf("another caller's equal key: %v, header %v", err, header)
	}
}

func emails(t *testing.T, c *kittest.Conn) {
	add(t, c, "ada")
	grace := add(t, c, "grace")
	_, err := admin(c).CreateUser(t.Context(), &userv1.CreateUserRequest{User: &userv1.User{Email: "ADA@Example.com"}})
	kittest.WantCode(t, err, codes.AlreadyExists)
	_, err = as(c, "grace").UpdateUser(t.Context(), &userv1.UpdateUserRequest{User: &userv1.User{UserId: "grace", Email: "Ada@example.com"}})
	kittest.WantCode(t, err, codes.AlreadyExists)
	u, err := as(c, "grace").UpdateUser(t.Context(), &userv1.UpdateUserRequest{User: &userv1.User{UserId: "grace", Email: "Grace@example.com"}})
	if err != nil || u.GetEmail() != "Grace@example.com" || u.GetEtag() == grace.GetEtag() {
		t.Errorf("another case of one's own address: %v, %v", u, err)
	}
}

func get(t *testing.T, c *kittest.Conn) {
	add(t, c, "ada")
	if _, err := as(c, "ada").GetUser(t.Context(), &userv1.GetUserRequest{UserId: "ada"}); err != nil {
		t.Error(err)
	}
	_, err := admin(c).GetUser(t.Context(), &userv1.GetUserRequest{UserId: "nobody"})
	if st := kittest.WantCode(t, err, codes.NotFound); st.Message() != `user "nobody" not found` {
		t.Errorf("message = %q", st.Message())
	}
	_, err = admin(c).GetUser(t.Context(), &userv1.GetUserRequest{})
	kittest.WantField(t, err, "user_id")
}

func update(t *testing.T, c *kittest.Conn) {
	old := add(t, c, "ada")
	change := &userv1.UpdateUserRequest{
		User: &userv1.User{UserId: "ada", DisplayName: "Countess", Etag: old.GetEtag()},
	}
	u, err := as(c, "ada").UpdateUser(t.Context(), change)
	if err != nil || u.GetDisplayName() != "Countess" || u.GetEmail() != old.GetEmail() || u.GetPhone() != old.GetPhone() {
		t.Fatalf("updated = %v, %v", u, err)
	}
	if u.GetUpdateTime().AsTime().Before(old.GetUpdateTime().AsTime()) || !proto.Equal(u.GetCreateTime(), old.GetCreateTime()) {
		t.Errorf("times = %v", u)
	}
	stored, err := as(c, "ada").GetUser(t.Context(), &userv1.GetUserRequest{UserId: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, stored, u)
	_, err = as(c, "ada").UpdateUser(t.Context(), change)
	kittest.WantReason(t, err, codes.Aborted, "STALE_ETAG")
	// The same again, without the etag, changes nothing: not even the version.
	change.User.Etag = ""
	same, err := as(c, "ada").UpdateUser(t.Context(), change)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, same, u)
	_, err = as(c, "nobody").UpdateUser(t.Context(), &userv1.UpdateUserRequest{User: &userv1.User{UserId: "nobody"}})
	kittest.WantCode(t, err, codes.NotFound)
}

func updateByMask(t *testing.T, c *kittest.Conn) {
	full := &userv1.User{UserId: "ada", Email: "new@example.com", DisplayName: "New", Phone: proto.String("+12025550101")}
	empty := &userv1.User{UserId: "ada"}
	for i, tt := range []struct {
		name  string
		user  *userv1.User
		mask  []string
		want  string // e-mail address, name and phone afterwards; "" for the old
		field string // that is refused
	}{
		{name: "one field", user: full, mask: []string{"display_name"}, want: "ada@example.com,New,+441632960000"},
		{name: "all", user: full, mask: []string{"*"}, want: "new@example.com,New,+12025550101"},
		{name: "phone cleared", user: empty, mask: []string{"phone"}, want: "ada@example.com,User ada,"},
		{name: "phone cleared by an empty one", user: &userv1.User{UserId: "ada", Phone: proto.String("")}, want: "ada@example.com,User ada,"},
		{name: "name cleared", user: empty, mask: []string{"display_name"}, want: "ada@example.com,,+441632960000"},
		{name: "nothing populated", user: empty, want: "ada@example.com,User ada,+441632960000"},
		{name: "with the etag's path", user: full, mask: []string{"etag", "phone"}, want: "ada@example.com,User ada,+12025550101"},
		{name: "e-mail address cleared", user: empty, mask: []string{"email"}, field: "user.email"},
		{name: "all cleared", user: empty, mask: []string{"*"}, field: "user.email"},
		{name: "unknown", user: full, mask: []string{"email", "shoe_size"}, field: "update_mask"},
		{name: "what is the service's to set is left to it", user: full, mask: []string{"user_id", "update_time", "etag"}, want: "ada@example.com,User ada,+441632960000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if i > 0 {
				if _, err := admin(c).DeleteUser(t.Context(), &userv1.DeleteUserRequest{UserId: "ada"}); err != nil {
					t.Fatal(err)
				}
			}
			old := add(t, c, "ada")
			req := &userv1.UpdateUserRequest{User: tt.user}
			if tt.mask != nil {
				req.UpdateMask = &fieldmaskpb.FieldMask{Paths: tt.mask}
			}
			_, err := as(c, "ada").UpdateUser(t.Context(), req)
			stored, getErr := as(c, "ada").GetUser(t.Context(), &userv1.GetUserRequest{UserId: "ada"})
			if getErr != nil {
				t.Fatal(getErr)
			}
			if tt.field != "" {
				kittest.WantField(t, err, tt.field)
				wantEqual(t, stored, old)
				return
			}
			if got := strings.Join([]string{stored.GetEmail(), stored.GetDisplayName(), stored.GetPhone()}, ","); err != nil || got != tt.want {
				t.Errorf("user = %s, %v, want %s", got, err, tt.want)
			}
			if (stored.Phone == nil) != (stored.GetPhone() == "") {
				t.Error("an empty phone is present")
			}
		})
	}
}

// concurrentUpdates: every etag is good for one change, and no change is lost.
func concurrentUpdates(t *testing.T, c *kittest.Conn) {
	add(t, c, "ada")
	ada := as(c, "ada")
	const writers, each = 4, 5
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				u, err := ada.GetUser(t.Context(), &userv1.GetUserRequest{UserId: "ada"})
				if err != nil {
					t.Error(err)
					return
				}
				name := strings.TrimPrefix(u.GetDisplayName(), "User ada") + string(rune('a'+w))
				_, err = ada.UpdateUser(t.Context(), &userv1.UpdateUserRequest{User: &userv1.User{UserId: "ada", DisplayName: name, Etag: u.GetEtag()}})
				if err == nil {
					done++
				} else if status.Code(err) != codes.Aborted {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	u, err := ada.GetUser(t.Context(), &userv1.GetUserRequest{UserId: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	for w := range writers {
		if n := strings.Count(u.GetDisplayName(), string(rune('a'+w))); n != each {
			t.Errorf("writer %d left %d marks in %q, want %d", w, n, u.GetDisplayName(), each)
		}
	}
}

func deleteUser(t *testing.T, c *kittest.Conn) {
	old := add(t, c, "ada")
	u, err := as(c, "ada").UpdateUser(t.Context(), &userv1.UpdateUserRequest{User: &userv1.User{UserId: "ada", DisplayName: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = admin(c).DeleteUser(t.Context(), &userv1.DeleteUserRequest{UserId: "ada", Etag: old.GetEtag()})
	kittest.WantReason(t, err, codes.Aborted, "STALE_ETAG")
	if _, err := admin(c).DeleteUser(t.Context(), &userv1.DeleteUserRequest{UserId: "ada", Etag: u.GetEtag()}); err != nil {
		t.Fatal(err)
	}
	_, err = admin(c).DeleteUser(t.Context(), &userv1.DeleteUserRequest{UserId: "ada"})
	kittest.WantCode(t, err, codes.NotFound)
	// The same id anew has etags of its own.
	if anew := add(t, c, "ada"); anew.GetEtag() == old.GetEtag() {
		t.Error("the new user has the etag of the deleted one")
	}
}

func batchGet(t *testing.T, c *kittest.Conn) {
	for _, id := range []string{"a", "b", "c"} {
		add(t, c, id)
	}
	resp, err := admin(c).BatchGetUsers(t.Context(), &userv1.BatchGetUsersRequest{UserIds: []string{"c", "a", "c", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, u := range resp.GetUsers() {
		ids = append(ids, u.GetUserId())
	}
	if !slices.Equal(ids, []string{"c", "a", "c", "b"}) {
		t.Errorf("users = %v", ids)
	}
	_, err = admin(c).BatchGetUsers(t.Context(), &userv1.BatchGetUsersRequest{UserIds: []string{"a", "y", "b", "x", "y"}})
	if st := kittest.WantCode(t, err, codes.NotFound); st.Message() != "users not found: y, x" {
		t.Errorf("message = %q", st.Message())
	}
	_, err = admin(c).BatchGetUsers(t.Context(), &userv1.BatchGetUsersRequest{})
	kittest.WantField(t, err, "user_ids")
	_, err = admin(c).BatchGetUsers(t.Context(), &userv1.BatchGetUsersRequest{UserIds: slices.Repeat([]string{"a"}, 101)})
	kittest.WantField(t, err, "user_ids")
}

func whoMay(t *testing.T, c *kittest.Conn) {
	add(t, c, "ada")
	reader := userv1.NewUserServiceClient(c.As("ada", "users.read"))
	for name, call := range map[string]func(userv1.UserServiceClient) error{
		"get": func(u userv1.UserServiceClient) error {
			_, err := u.GetUser(t.Context(), &userv1.GetUserRequest{UserId: "ada"})
			return err
		},
		"update": func(u userv1.UserServiceClient) error {
			_, err := u.UpdateUser(t.Context(), &userv1.UpdateUserRequest{User: &userv1.User{UserId: "ada", DisplayName: "Eve"}})
			return err
		},
		"delete": func(u userv1.UserServiceClient) error {
			_, err := u.DeleteUser(t.Context(), &userv1.DeleteUserRequest{UserId: "ada"})
			return err
		},
		"list": func(u userv1.UserServiceClient) error {
			_, err := u.ListUsers(t.Context(), &userv1.ListUsersRequest{})
			return err
		},
		"batch get": func(u userv1.UserServiceClient) error {
			_, err := u.BatchGetUsers(t.Context(), &userv1.BatchGetUsersRequest{UserIds: []string{"ada"}})
			return err
		},
	} {
		kittest.WantCode(t, call(as(c, "eve")), codes.PermissionDenied)
		kittest.WantCode(t, call(as(c, "")), codes.PermissionDenied)
		if name == "list" || name == "batch get" || name == "delete" {
			kittest.WantCode(t, call(as(c, "ada")), codes.PermissionDenied)
		}
	}
	_, err := reader.CreateUser(t.Context(), &userv1.CreateUserRequest{User: &userv1.User{Email: "x@example.com"}})
	kittest.WantCode(t, err, codes.PermissionDenied)
}

func seed(t *testing.T, dsn, transport string) {
	s, err := user.Open(t.Context(), dsn, slog.New(slog.DiscardHandler))
	c := kittest.ServeService(t, transport, s, err)
	for range 2 {
		if err := s.Seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ids := pages(t, c, 0, "", nil); !slices.Equal(ids, []string{"ada", "grace", "alan"}) {
			t.Fatalf("seeded %v", ids)
		}
	}
	// What is deleted stays deleted.
	if _, err := admin(c).DeleteUser(t.Context(), &userv1.DeleteUserRequest{UserId: "alan"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ids := pages(t, c, 0, "@example.com", nil); !slices.Equal(ids, []string{"ada", "grace"}) {
		t.Errorf("after another seed: %v", ids)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// twoProcesses: of equal requests at two processes one creates.
func twoProcesses(t *testing.T, dsn, transport string) {
	conns := []*kittest.Conn{serve(t, dsn, transport), serve(t, dsn, transport)}
	const requests = 12
	var (
		wg   sync.WaitGroup
		made [requests]*userv1.User
	)
	for i := range requests {
		wg.Go(func() {
			var err error
			made[i], err = as(conns[i%2], "boss").CreateUser(t.Context(), &userv1.CreateUserRequest{
				User: &userv1.User{Email: "ada@example.com"}, RequestId: "same",
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, u := range made {
		wantEqual(t, u, made[0])
	}
	if ids := pages(t, conns[0], 0, "", nil); len(ids) != 1 {
		t.Errorf("made %v", ids)
	}
}
