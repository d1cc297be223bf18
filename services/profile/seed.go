package profile

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"time"

	"github.com/sluice-gateway/sluice/services/profile/domain"
	"github.com/sluice-gateway/sluice/services/profile/store"
)

// seed writes the demo's profiles and a picture of ada. Profiles that are there
// by then are left as they are.
func seed(ctx context.Context, s *store.Store) error {
	return s.DB().Once(ctx, store.Service, "seed", func(tx *sql.Tx) error {
		for i, p := range demoProfiles() {
			at := time.Date(2026, time.January, 5+i, 9, 30, 0, 0, time.UTC)
			if err := insertDemo(ctx, s, tx, p, at); err != nil {
				return fmt.Errorf("seed %s: %w", p.UserID, err)
			}
		}
		return nil
	})
}

func insertDemo(ctx context.Context, s *store.Store, tx *sql.Tx, p domain.Profile, at time.Time) error {
	added, err := s.InsertIfAbsent(ctx, tx, p, at)
	if err != nil || !added || p.UserID != "ada" {
		return err
	}
	avatar, err := demoAvatar()
	if err != nil {
		return err
	}
	_, err = s.SetAvatarIn(ctx, tx, p.UserID, at, avatar)
	return err
}

func demoProfiles() []domain.Profile {
	return []domain.Profile{
		{
			UserID: "ada", Bio: "Writes programs for a machine that is still to be built.", Location: "London",
			Website: "https://ada.example.com/", Languages: []string{"en", "fr", "it"},
			Links: map[string]string{"notes": "https://ada.example.com/notes", "mail": "mailto:ada@example.com"},
		},
		{
			UserID: "grace", Bio: "Hands out nanoseconds. Found the first bug.", Location: "Arlington, Virginia",
			Website: "https://grace.example.com/", Languages: []string{"en"},
			Links: map[string]string{"compiler": "https://grace.example.com/a-0"},
		},
		{
			UserID: "alan", Bio: "Runs long distances and imitation games.", Location: "Wilmslow",
			Languages: []string{"en", "de"},
			Links:     map[string]string{"paper": "https://alan.example.com/computable-numbers"},
		},
	}
}

// demoAvatar draws a picture: a disc on a ground that runs from one colour into
// another.
func demoAvatar() (domain.Avatar, error) {
	const size = 64
	img := image.NewRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			c := color.RGBA{R: uint8(40 + 2*x), G: uint8(60 + y), B: 160, A: 255} //nolint:gosec // below 256
			if dx, dy := x-size/2, y-size/2; dx*dx+dy*dy < 20*20 {
				c = color.RGBA{R: 250, G: 220, B: 140, A: 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return domain.Avatar{}, fmt.Errorf("draw avatar: %w", err)
	}
	return domain.NewAvatar("image/png", out.Bytes())
}
