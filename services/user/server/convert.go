package server

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	"github.com/sluice-gateway/sluice/services/user/domain"
)

func toProto(u domain.User) *userv1.User {
	out := &userv1.User{
		UserId:      u.ID,
		Email:       u.Email,
		DisplayName: u.DisplayName,
		CreateTime:  timestamppb.New(u.Created),
		UpdateTime:  timestamppb.New(u.Updated),
		Etag:        u.Etag(),
	}
	if u.Phone != "" {
		out.Phone = &u.Phone
	}
	return out
}
