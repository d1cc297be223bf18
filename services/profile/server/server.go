// Package server is the gRPC face of the profile service: it reads requests,
// checks the caller once more than the gateway did, and leaves rules to
// profile/domain and rows to profile/store.
package server

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/protobuf/types/known/timestamppb"

	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/profile/domain"
	"github.com/sluice-gateway/sluice/services/profile/store"
)

// Server implements shop.profile.v1.ProfileService behind the interceptors of
// kit, which have validated the request and named the caller.
type Server struct {
	profilev1.UnimplementedProfileServiceServer
	store *store.Store
}

// New returns a server of the profiles in s.
func New(s *store.Store) *Server { return &Server{store: s} }

// GetProfile implements profilev1.ProfileServiceServer. It is public.
func (s *Server) GetProfile(ctx context.Context, req *profilev1.GetProfileRequest) (*profilev1.Profile, error) {
	p, err := s.store.Get(ctx, req.GetUserId())
	if err != nil {
		return nil, err
	}
	return toProto(p), nil
}

// UpdateProfile implements profilev1.ProfileServiceServer.
func (s *Server) UpdateProfile(ctx context.Context, req *profilev1.UpdateProfileRequest) (*profilev1.Profile, error) {
	in := req.GetProfile()
	if err := kit.RequireOwner(ctx, in.GetUserId()); err != nil {
		return nil, err
	}
	mask, err := kit.UpdateMask(req.GetUpdateMask(), in, "bio", "location", "website", "languages", "links")
	if err != nil {
		return nil, err
	}
	if mask["links"] {
		if err := domain.CheckLinks(in.GetLinks()); err != nil {
			return nil, err
		}
	}
	p, err := s.store.Update(ctx, in.GetUserId(), kit.Now(), func(p domain.Profile) (domain.Profile, error) {
		if err := p.CheckEtag(in.GetEtag()); err != nil {
			return domain.Profile{}, err
		}
		return apply(p, in, mask), nil
	})
	if err != nil {
		return nil, err
	}
	return toProto(p), nil
}

// apply returns p with the fields of the mask as they are in the request.
func apply(p domain.Profile, in *profilev1.Profile, mask kit.Mask) domain.Profile {
	if mask["bio"] {
		p.Bio = in.GetBio()
	}
	if mask["location"] {
		p.Location = in.GetLocation()
	}
	if mask["website"] {
		p.Website = in.GetWebsite()
	}
	if mask["languages"] {
		p.Languages = slices.Clone(in.GetLanguages())
	}
	if mask["links"] {
		p.Links = maps.Clone(in.GetLinks())
	}
	return p
}

// UploadAvatar implements profilev1.ProfileServiceServer.
func (s *Server) UploadAvatar(ctx context.Context, req *profilev1.UploadAvatarRequest) (*profilev1.Profile, error) {
	if err := kit.RequireOwner(ctx, req.GetUserId()); err != nil {
		return nil, err
	}
	avatar, err := domain.NewAvatar(req.GetAvatar().GetContentType(), req.GetAvatar().GetData())
	if err != nil {
		return nil, err
	}
	p, err := s.store.SetAvatar(ctx, req.GetUserId(), kit.Now(), avatar)
	if err != nil {
		return nil, err
	}
	return toProto(p), nil
}

// GetAvatar implements profilev1.ProfileServiceServer. It is public.
func (s *Server) GetAvatar(ctx context.Context, req *profilev1.GetAvatarRequest) (*httpbody.HttpBody, error) {
	a, err := s.store.Avatar(ctx, req.GetUserId())
	if err != nil {
		return nil, err
	}
	return &httpbody.HttpBody{ContentType: a.ContentType, Data: a.Data}, nil
}

func toProto(p domain.Profile) *profilev1.Profile {
	return &profilev1.Profile{
		UserId:     p.UserID,
		Bio:        p.Bio,
		Location:   p.Location,
		Website:    p.Website,
		Languages:  p.Languages,
		Links:      p.Links,
		HasAvatar:  p.HasAvatar,
		UpdateTime: timestamppb.New(p.Updated),
		Etag:       p.Etag(),
	}
}
