package domain

import (
	"bytes"
	"fmt"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"mime"

	"golang.org/x/image/webp"

	"github.com/sluice-gateway/sluice/services/kit"
)

const (
	// MaxAvatarBytes bounds a picture.
	MaxAvatarBytes = 2 << 20
	// MaxAvatarPixels bounds each side of a picture: a small file can unfold to
	// gigabytes in the browser of whoever looks.
	MaxAvatarPixels = 10_000
)

// Avatar is a picture of a user.
type Avatar struct {
	// ContentType is one of image/png, image/jpeg, image/gif, image/webp.
	ContentType string
	Data        []byte
}

// format is a kind of picture: how its file begins and how its header is read.
// The image package's registry is not used: it holds whatever the program links.
type format struct {
	contentType string
	is          func(data []byte) bool
	config      func(io.Reader) (image.Config, error)
}

func formats() []format {
	begins := func(magic string) func([]byte) bool {
		return func(data []byte) bool { return bytes.HasPrefix(data, []byte(magic)) }
	}
	return []format{
		{"image/png", begins("\x89PNG\r\n\x1a\n"), png.DecodeConfig},
		{"image/jpeg", begins("\xff\xd8\xff"), jpeg.DecodeConfig},
		{"image/gif", begins("GIF8"), gif.DecodeConfig},
		{"image/webp", func(data []byte) bool {
			return len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP"
		}, webp.DecodeConfig},
	}
}

// NewAvatar returns the picture in data. It is INVALID_ARGUMENT, of a field of
// avatar, when data is no picture of the declared content type, or too large.
func NewAvatar(contentType string, data []byte) (Avatar, error) {
	declared, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return Avatar{}, kit.InvalidField("avatar.content_type", "content_type", "is not a media type")
	}
	switch {
	case len(data) == 0:
		return Avatar{}, kit.InvalidField("avatar.data", "required", "holds no picture")
	case len(data) > MaxAvatarBytes:
		return Avatar{}, kit.InvalidField("avatar.data", "size", "has more than %d bytes", MaxAvatarBytes)
	}
	f, cfg, err := read(data)
	if err != nil {
		return Avatar{}, kit.InvalidField("avatar.data", "image", "is not a readable PNG, JPEG, GIF or WebP picture")
	}
	if f.contentType != declared {
		return Avatar{}, kit.InvalidField("avatar.content_type", "content_type", "is %s, but the picture is %s", declared, f.contentType)
	}
	if min(cfg.Width, cfg.Height) < 1 || max(cfg.Width, cfg.Height) > MaxAvatarPixels {
		return Avatar{}, kit.InvalidField("avatar.data", "dimensions", "is %d by %d pixels, at most %d by %d are allowed",
			cfg.Width, cfg.Height, MaxAvatarPixels, MaxAvatarPixels)
	}
	return Avatar{ContentType: f.contentType, Data: data}, nil
}

func read(data []byte) (format, image.Config, error) {
	for _, f := range formats() {
		if f.is(data) {
			cfg, err := f.config(bytes.NewReader(data))
			return f, cfg, err
		}
	}
	return format{}, image.Config{}, fmt.Errorf("unknown format: %w", image.ErrFormat)
}
