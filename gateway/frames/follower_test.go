package frames

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"golang.org/x/net/http2"
)

// FuzzFollower: we see the frames that http2's own reader does, however the bytes
// are cut.
func FuzzFollower(f *testing.F) {
	var b bytes.Buffer
	w := http2.NewFramer(&b, nil)
	if err := errors.Join(w.WriteSettings(), w.WriteData(1, true, []byte("abc")), w.WriteRSTStream(3, http2.ErrCodeCancel),
		w.WriteRawFrame(http2.FrameHeaders, 0, 5, []byte{0x82}), w.WriteContinuation(5, true, nil)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes(), uint8(1))
	f.Add(b.Bytes()[:20], uint8(7))
	f.Add([]byte{0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		var got, want []Frame
		var p Follower
		for part := range slices.Chunk(in, int(cut)+1) {
			p.Feed(part, func(f Frame) { got = append(got, f) })
		}
		r := bytes.NewReader(in)
		for {
			h, err := http2.ReadFrameHeader(r)
			if err != nil {
				break
			}
			want = append(want, Frame{h.Type, h.Flags, h.StreamID, int(h.Length)})
			if _, err := r.Seek(int64(h.Length), 1); err != nil {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
