// Package server is the gRPC face of the user service: it reads requests, checks
// the caller once more than the gateway did, and leaves rules to user/domain and
// rows to user/store.
package server

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/emptypb"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/idempotency"
	"github.com/sluice-gateway/sluice/services/user/domain"
	"github.com/sluice-gateway/sluice/services/user/store"
)

// Server implements shop.user.v1.UserService behind the interceptors of kit,
// which have validated the request and named the caller.
type Server struct {
	userv1.UnimplementedUserServiceServer
	store *store.Store
	keys  *idempotency.Keys
}

// New returns a server of the users in s.
func New(s *store.Store, keys *idempotency.Keys) *Server { return &Server{store: s, keys: keys} }

// CreateUser implements userv1.UserServiceServer.
func (s *Server) CreateUser(ctx context.Context, req *userv1.CreateUserRequest) (*userv1.User, error) {
	if err := kit.RequireScope(ctx, "users.write"); err != nil {
		return nil, err
	}
	if req.GetUser().GetUserId() != "" {
		return nil, kit.InvalidField("user.user_id", "user_id", "must be empty: the request's own user_id chooses the id")
	}
	key := idempotency.Request{Scope: kit.CallerFrom(ctx).Subject, ID: req.GetRequestId(), Message: req}
	return idempotency.Do(ctx, s.keys, key, &userv1.User{}, func(tx *sql.Tx) (*userv1.User, error) {
		u := newUser(req)
		if err := s.store.Insert(ctx, tx, u); err != nil {
			return nil, err
		}
		return toProto(u), nil
	})
}

func newUser(req *userv1.CreateUserRequest) domain.User {
	now := kit.Now()
	id := req.GetUserId()
	if id == "" {
		id = kit.NewID()
	}
	return domain.User{
		ID: id, Email: req.GetUser().GetEmail(), DisplayName: req.GetUser().GetDisplayName(),
		Phone: req.GetUser().GetPhone(), Revision: 1, Created: now, Updated: now,
	}
}

// GetUser implements userv1.UserServiceServer.
func (s *Server) GetUser(ctx context.Context, req *userv1.GetUserRequest) (*userv1.User, error) {
	if err := kit.RequireOwner(ctx, req.GetUserId()); err != nil {
		return nil, err
	}
	u, err := s.store.Get(ctx, req.GetUserId())
	if err != nil {
		return nil, err
	}
	return toProto(u), nil
}

// ListUsers implements userv1.UserServiceServer.
func (s *Server) ListUsers(ctx context.Context, req *userv1.ListUsersRequest) (*userv1.ListUsersResponse, error) {
	if err := kit.RequireScope(ctx, "admin"); err != nil {
		return nil, err
	}
	params := []string{"ListUsers", req.GetFilter()}
	after, err := kit.ParsePageToken(req.GetPageToken(), params...)
	if err != nil {
		return nil, err
	}
	size := kit.PageSize(req.GetPageSize())
	users, err := s.store.List(ctx, req.GetFilter(), after, size+1) // One more tells whether there is a next page.
	if err != nil {
		return nil, err
	}
	resp := &userv1.ListUsersResponse{}
	if len(users) > size {
		users = users[:size]
		last := users[size-1]
		resp.NextPageToken = kit.PageToken(kit.Cursor{Time: last.Created, ID: last.ID}, params...)
	}
	for _, u := range users {
		resp.Users = append(resp.Users, toProto(u))
	}
	return resp, nil
}

// UpdateUser implements userv1.UserServiceServer.
func (s *Server) UpdateUser(ctx context.Context, req *userv1.UpdateUserRequest) (*userv1.User, error) {
	in := req.GetUser()
	if err := kit.RequireOwner(ctx, in.GetUserId()); err != nil {
		return nil, err
	}
	mask, err := kit.UpdateMask(req.GetUpdateMask(), in, "email", "display_name", "phone")
	if err != nil {
		return nil, err
	}
	var change domain.Change
	if mask["email"] {
		change.Email = new(in.GetEmail())
	}
	if mask["display_name"] {
		change.DisplayName = new(in.GetDisplayName())
	}
	if mask["phone"] {
		change.Phone = new(in.GetPhone())
	}
	u, err := s.store.Update(ctx, in.GetUserId(), kit.Now(), func(u domain.User) (domain.User, error) {
		if err := u.CheckEtag(in.GetEtag()); err != nil {
			return domain.User{}, err
		}
		return change.Apply(u)
	})
	if err != nil {
		return nil, err
	}
	return toProto(u), nil
}

// DeleteUser implements userv1.UserServiceServer.
func (s *Server) DeleteUser(ctx context.Context, req *userv1.DeleteUserRequest) (*emptypb.Empty, error) {
	if err := kit.RequireScope(ctx, "admin"); err != nil {
		return nil, err
	}
	err := s.store.Delete(ctx, req.GetUserId(), func(u domain.User) error { return u.CheckEtag(req.GetEtag()) })
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// BatchGetUsers implements userv1.UserServiceServer.
func (s *Server) BatchGetUsers(ctx context.Context, req *userv1.BatchGetUsersRequest) (*userv1.BatchGetUsersResponse, error) {
	if err := kit.RequireScope(ctx, "admin"); err != nil {
		return nil, err
	}
	found, err := s.store.BatchGet(ctx, req.GetUserIds())
	if err != nil {
		return nil, err
	}
	resp := &userv1.BatchGetUsersResponse{}
	var missing []string
	for _, id := range req.GetUserIds() {
		u, ok := found[id]
		if !ok {
			if !slices.Contains(missing, id) {
				missing = append(missing, id)
			}
			continue
		}
		resp.Users = append(resp.Users, toProto(u))
	}
	if len(missing) > 0 {
		return nil, kit.NotFound("users not found: %s", strings.Join(missing, ", "))
	}
	return resp, nil
}
