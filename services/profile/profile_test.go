package profile_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	"github.com/sluice-gateway/sluice/services/kit/dbtest"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
	"github.com/sluice-gateway/sluice/services/profile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestService(t *testing.T) {
	kittest.Suite(t, func(t *testing.T, e dbtest.Engine, transport string) {
		for _, tt := range []struct {
			name string
			test func(*testing.T, *kittest.Conn)
		}{
			{"update makes and changes", update},
			{"update by mask", updateByMask},
			{"validation", validation},
			{"concurrent updates", concurrentUpdates},
			{"avatar", avatar},
			{"avatars that are refused", badAvatars},
			{"who may", whoMay},
		} {
			t.Run(tt.name, func(t *testing.T) { tt.test(t, serve(t, e.DSN(t), transport)) })
		}
		t.Run("seed", func(t *testing.T) { seed(t, e.DSN(t), transport) })
	})
}

func serve(t *testing.T, dsn, transport string) *kittest.Conn {
	t.Helper()
	s, err := profile.Open(t.Context(), dsn, slog.New(slog.DiscardHandler))
	return kittest.ServeService(t, transport, s, err)
}

func as(c *kittest.Conn, subject string) profilev1.ProfileServiceClient {
	return profilev1.NewProfileServiceClient(c.As(subject, "profiles.write"))
}

func get(t *testing.T, c *kittest.Conn, id string) *profilev1.Profile {
	t.Helper()
	p, err := as(c, "").GetProfile(t.Context(), &profilev1.GetProfileRequest{UserId: id})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func set(t *testing.T, c *kittest.Conn, p *profilev1.Profile) *profilev1.Profile {
	t.Helper()
	out, err := as(c, p.GetUserId()).UpdateProfile(t.Context(), &profilev1.UpdateProfileRequest{Profile: p})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wantEqual(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
}

func full() *profilev1.Profile {
	return &profilev1.Profile{
		UserId: "ada", Bio: "Bio é", Location: "London", Website: "https://ada.example.com/",
		Languages: []string{"en", "pt-BR"}, Links: map[string]string{"a": "https://a.example.com/", "b \"x\"": "mailto:ada@example.com"},
	}
}

func update(t *testing.T, c *kittest.Conn) {
	_, err := as(c, "").GetProfile(t.Context(), &profilev1.GetProfileRequest{UserId: "ada"})
	kittest.WantCode(t, err, codes.NotFound)
	// An etag of what is not there is stale, and leaves nothing behind.
	withEtag := full()
	withEtag.Etag = "x"
	_, err = as(c, "ada").UpdateProfile(t.Context(), &profilev1.UpdateProfileRequest{Profile: withEtag})
	kittest.WantReason(t, err, codes.Aborted, "STALE_ETAG")
	_, err = as(c, "").GetProfile(t.Context(), &profilev1.GetProfileRequest{UserId: "ada"})
	kittest.WantCode(t, err, codes.NotFound)

	made := set(t, c, full())
	want := full()
	want.Etag, want.UpdateTime = made.GetEtag(), made.GetUpdateTime()
	wantEqual(t, made, want)
	if made.GetEtag() == "" || !made.GetUpdateTime().IsValid() {
		t.Errorf("made %v", made)
	}
	wantEqual(t, get(t, c, "ada"), made)
	wantEqual(t, set(t, c, full()), made) // The same again changes nothing.

	changed := set(t, c, &profilev1.Profile{UserId: "ada", Bio: "New", Etag: made.GetEtag()})
	if changed.GetBio() != "New" || changed.GetLocation() != "London" || changed.GetEtag() == made.GetEtag() {
		t.Errorf("changed = %v", changed)
	}
	_, err = as(c, "ada").UpdateProfile(t.Context(), &profilev1.UpdateProfileRequest{Profile: &profilev1.Profile{UserId: "ada", Bio: "x", Etag: made.GetEtag()}})
	kittest.WantReason(t, err, codes.Aborted, "STALE_ETAG")
	wantEqual(t, get(t, c, "ada"), changed)
}

func updateByMask(t *testing.T, c *kittest.Conn) {
	empty := &profilev1.Profile{UserId: "ada"}
	for _, tt := range []struct {
		name, field string
		mask        []string
		want        func(*profilev1.Profile)
	}{
		{name: "bio", mask: []string{"bio"}, want: func(p *profilev1.Profile) { p.Bio = "" }},
		{name: "languages", mask: []string{"languages"}, want: func(p *profilev1.Profile) { p.Languages = nil }},
		{name: "links", mask: []string{"links"}, want: func(p *profilev1.Profile) { p.Links = nil }},
		{name: "website and location", mask: []string{"website", "location"}, want: func(p *profilev1.Profile) { p.Website, p.Location = "", "" }},
		{name: "all", mask: []string{"*"}, want: func(p *profilev1.Profile) { proto.Reset(p); p.UserId = "ada" }},
		{name: "none", want: func(*profilev1.Profile) {}},
		{name: "unknown", mask: []string{"bio", "nose"}, field: "update_mask"},
		{name: "below a map", mask: []string{"links.a"}, field: "update_mask"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set(t, c, full())
			req := &profilev1.UpdateProfileRequest{Profile: proto.CloneOf(empty)}
			if tt.mask != nil {
				req.UpdateMask = &fieldmaskpb.FieldMask{Paths: tt.mask}
			}
			_, err := as(c, "ada").UpdateProfile(t.Context(), req)
			want := full()
			if tt.field != "" {
				kittest.WantField(t, err, tt.field)
			} else if err != nil {
				t.Fatal(err)
			} else {
				tt.want(want)
			}
			got := get(t, c, "ada")
			got.Etag, got.UpdateTime = "", nil
			wantEqual(t, got, want)
		})
	}
}

func validation(t *testing.T, c *kittest.Conn) {
	for field, p := range map[string]*profilev1.Profile{
		"profile.website":      {UserId: "ada", Website: "ftp://x.example.com"},
		"profile.languages[0]": {UserId: "ada", Languages: []string{"e"}},
		`profile.links["x"]`:   {UserId: "ada", Links: map[string]string{"x": "javascript:alert(1)"}},
		"profile.bio":          {UserId: "ada", Bio: "a\x00"},
		"profile.location":     {UserId: "ada", Location: strings.Repeat("x", 201)},
	} {
		_, err := as(c, "ada").UpdateProfile(t.Context(), &profilev1.UpdateProfileRequest{Profile: p})
		kittest.WantField(t, err, field)
	}
	_, err := as(c, "").GetProfile(t.Context(), &profilev1.GetProfileRequest{UserId: "ada"})
	kittest.WantCode(t, err, codes.NotFound) // None of them made a profile.
}

// concurrentUpdates: changes of different fields, and the making of the profile
// itself, meet in one.
func concurrentUpdates(t *testing.T, c *kittest.Conn) {
	changes := []*profilev1.Profile{
		{UserId: "ada", Bio: "b"}, {UserId: "ada", Location: "l"}, {UserId: "ada", Website: "https://w.example.com/"},
		{UserId: "ada", Languages: []string{"en"}}, {UserId: "ada", Links: map[string]string{"a": "https://a.example.com/"}},
	}
	var wg sync.WaitGroup
	for _, p := range changes {
		wg.Go(func() {
			if _, err := as(c, "ada").UpdateProfile(t.Context(), &profilev1.UpdateProfileRequest{Profile: p}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		req := &profilev1.UploadAvatarRequest{UserId: "ada", Avatar: &httpbody.HttpBody{ContentType: "image/png", Data: pictures(t)["image/png"]}}
		if _, err := as(c, "ada").UploadAvatar(t.Context(), req); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	got := get(t, c, "ada")
	if got.GetBio() != "b" || got.GetLocation() != "l" || got.GetWebsite() == "" || len(got.GetLanguages()) != 1 || len(got.GetLinks()) != 1 || !got.GetHasAvatar() {
		t.Errorf("lost a change: %v", got)
	}
}

// pictures returns a picture of each kind, by its content type.
func pictures(t *testing.T) map[string][]byte {
	t.Helper()
	img := image.NewPaletted(image.Rect(0, 0, 3, 2), color.Palette{color.Black, color.White})
	out := map[string][]byte{}
	for contentType, encode := range map[string]func(*bytes.Buffer) error{
		"image/png":  func(b *bytes.Buffer) error { return png.Encode(b, img) },
		"image/jpeg": func(b *bytes.Buffer) error { return jpeg.Encode(b, img, nil) },
		"image/gif":  func(b *bytes.Buffer) error { return gif.Encode(b, img, nil) },
	} {
		var b bytes.Buffer
		if err := encode(&b); err != nil {
			t.Fatal(err)
		}
		out[contentType] = b.Bytes()
	}
	// One pixel, lossless: Go cannot write WebP.
	webp, err := base64.StdEncoding.DecodeString("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
	if err != nil {
		t.Fatal(err)
	}
	out["image/webp"] = webp
	return out
}

func avatar(t *testing.T, c *kittest.Conn) {
	_, err := as(c, "").GetAvatar(t.Context(), &profilev1.GetAvatarRequest{UserId: "ada"})
	kittest.WantCode(t, err, codes.NotFound)
	// The first picture makes the profile.
	etags := map[string]bool{}
	all := pictures(t)
	for _, contentType := range slices.Sorted(maps.Keys(all)) {
		body := &httpbody.HttpBody{ContentType: contentType, Data: all[contentType]}
		p, err := as(c, "ada").UploadAvatar(t.Context(), &profilev1.UploadAvatarRequest{UserId: "ada", Avatar: body})
		if err != nil || !p.GetHasAvatar() || etags[p.GetEtag()] {
			t.Fatalf("%s: %v, %v", contentType, p, err)
		}
		etags[p.GetEtag()] = true
		wantEqual(t, get(t, c, "ada"), p)
		got, err := as(c, "").GetAvatar(t.Context(), &profilev1.GetAvatarRequest{UserId: "ada"})
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, got, body)
	}
	set(t, c, full())
	if p := get(t, c, "ada"); !p.GetHasAvatar() || p.GetBio() == "" {
		t.Errorf("an update lost the picture: %v", p)
	}
	// The largest there may be, with what follows the picture in the file.
	large := append(slices.Clone(all["image/png"]), make([]byte, 2<<20-len(all["image/png"]))...)
	_, err = as(c, "ada").UploadAvatar(t.Context(), &profilev1.UploadAvatarRequest{UserId: "ada", Avatar: &httpbody.HttpBody{ContentType: "image/png; x=y", Data: large}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := as(c, "").GetAvatar(t.Context(), &profilev1.GetAvatarRequest{UserId: "ada"})
	if err != nil || got.GetContentType() != "image/png" || !bytes.Equal(got.GetData(), large) {
		t.Errorf("a large picture came back as %d bytes of %s, %v", len(got.GetData()), got.GetContentType(), err)
	}
}

// pngOf returns the beginning of a PNG that claims a size.
func pngOf(width, height uint32) []byte {
	header := []byte("IHDR")
	header = binary.BigEndian.AppendUint32(header, width)
	header = binary.BigEndian.AppendUint32(header, height)
	header = append(header, 8, 2, 0, 0, 0) // 8 bits, RGB
	out := binary.BigEndian.AppendUint32([]byte("\x89PNG\r\n\x1a\n"), uint32(len(header)-4))
	out = append(out, header...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(header))
}

func badAvatars(t *testing.T, c *kittest.Conn) {
	all := pictures(t)
	for _, tt := range []struct {
		name, contentType, field string
		data                     []byte
	}{
		{"nothing", "image/png", "avatar.data", nil},
		{"no content type", "", "avatar.content_type", all["image/png"]},
		{"another kind", "image/jpeg", "avatar.content_type", all["image/png"]},
		{"a kind we do not take", "image/svg+xml", "avatar.data", []byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`)},
		{"a page", "image/png", "avatar.data", []byte("<html><script>alert(1)</script>")},
		{"only the beginning", "image/png", "avatar.data", all["image/png"][:12]},
		{"too many bytes", "image/png", "avatar.data", append(slices.Clone(all["image/png"]), make([]byte, 2<<20)...)},
		{"too wide", "image/png", "avatar.data", pngOf(10_001, 1)},
		{"too high", "image/png", "avatar.data", pngOf(1, 10_001)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := as(c, "ada").UploadAvatar(t.Context(), &profilev1.UploadAvatarRequest{UserId: "ada", Avatar: &httpbody.HttpBody{ContentType: tt.contentType, Data: tt.data}})
			kittest.WantField(t, err, tt.field)
		})
	}
	if _, err := as(c, "ada").UploadAvatar(t.Context(), &profilev1.UploadAvatarRequest{UserId: "ada", Avatar: &httpbody.HttpBody{ContentType: "image/png", Data: pngOf(10_000, 10_000)}}); err != nil {
		t.Errorf("the largest sides: %v", err)
	}
	_, err := as(c, "ada").UploadAvatar(t.Context(), &profilev1.UploadAvatarRequest{UserId: "ada"})
	kittest.WantField(t, err, "avatar")
}

func whoMay(t *testing.T, c *kittest.Conn) {
	set(t, c, full())
	for _, subject := range []string{"eve", ""} {
		_, err := as(c, subject).UpdateProfile(t.Context(), &profilev1.UpdateProfileRequest{Profile: full()})
		kittest.WantCode(t, err, codes.PermissionDenied)
		_, err = as(c, subject).UploadAvatar(t.Context(), &profilev1.UploadAvatarRequest{UserId: "ada", Avatar: &httpbody.HttpBody{ContentType: "image/png", Data: pictures(t)["image/png"]}})
		kittest.WantCode(t, err, codes.PermissionDenied)
		if p := get(t, c, "ada"); p.GetHasAvatar() { // Anyone may look.
			t.Error("a stranger's picture is stored")
		}
	}
	admin := profilev1.NewProfileServiceClient(c.As("root", "admin"))
	if _, err := admin.UpdateProfile(t.Context(), &profilev1.UpdateProfileRequest{Profile: &profilev1.Profile{UserId: "ada", Bio: "x"}}); err != nil {
		t.Error(err)
	}
}

func seed(t *testing.T, dsn, transport string) {
	s, err := profile.Open(t.Context(), dsn, slog.New(slog.DiscardHandler))
	c := kittest.ServeService(t, transport, s, err)
	var first string
	for range 2 {
		if err := s.Seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"ada", "grace", "alan"} {
			if p := get(t, c, id); p.GetBio() == "" || p.GetLocation() == "" || len(p.GetLanguages()) == 0 || len(p.GetLinks()) == 0 || p.GetHasAvatar() != (id == "ada") {
				t.Errorf("seeded %v", p)
			}
		}
		if now := fmt.Sprint(get(t, c, "ada")); first == "" {
			first = now
		} else if now != first {
			t.Errorf("another seed changed %s to %s", first, now)
		}
	}
	body, err := as(c, "").GetAvatar(t.Context(), &profilev1.GetAvatarRequest{UserId: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	if img, err := png.Decode(bytes.NewReader(body.GetData())); err != nil || img.Bounds().Dx() != 64 {
		t.Errorf("the picture of ada: %v", err)
	}
}
