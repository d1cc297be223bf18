package listen

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"

	proxyproto "github.com/pires/go-proxyproto"
)

const (
	// shortest is the length of the shortest header, `PROXY UNKNOWN\r\n`.
	shortest = 15
	// longestV1 bounds a header of version 1 (section 2.1).
	longestV1 = 107
	// prefixV2 is what a header of version 2 has before its addresses: signature,
	// command, family, length.
	prefixV2 = 16
	// longestV2 bounds what follows, in bytes: addresses and as many TLVs as a
	// client's certificate needs.
	longestV2 = 4096
)

var (
	errNoHeader   = errors.New("the connection does not begin with a PROXY header")
	errTooLong    = errors.New("the PROXY header is too long")
	errNotTCP     = errors.New("the PROXY header is not about a TCP connection")
	errBadAddress = errors.New("the PROXY header names no client's address")
	errChecksum   = errors.New("the checksum of the PROXY header is wrong")
)

// readProxyHeader reads a PROXY header from r, and not a byte more: what
// follows, which may be a TLS handshake, stays in the connection. It returns
// whom the proxy speaks for, nil for itself (LOCAL, UNKNOWN). go-proxyproto
// parses; its own reader refuses a header that comes in two packets.
func readProxyHeader(r io.Reader) (net.Addr, error) {
	raw, err := takeHeader(r)
	if err != nil {
		return nil, err
	}
	rest := bufio.NewReaderSize(bytes.NewReader(raw), len(raw))
	h, err := proxyproto.Read(rest)
	if err != nil {
		return nil, err
	}
	if rest.Buffered() > 0 {
		return nil, errNoHeader
	}
	if err := checkTLVs(h, raw); err != nil {
		return nil, err
	}
	if h.Command.IsLocal() {
		return nil, nil
	}
	client, ok := h.SourceAddr.(*net.TCPAddr)
	if !ok || !h.TransportProtocol.IsStream() {
		return nil, errNotTCP
	}
	if a := addrOf(client); !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
		return nil, errBadAddress
	}
	return client, nil
}

// takeHeader reads the bytes of a header of either version. What cannot become
// one is refused at its first wrong byte.
func takeHeader(r io.Reader) ([]byte, error) {
	buf := make([]byte, shortest, longestV1)
	for n := 0; n < shortest; {
		got, err := r.Read(buf[n:])
		n += got
		if begins(buf[:n], proxyproto.SIGV1) || begins(buf[:n], proxyproto.SIGV2) {
			if err != nil && n < shortest {
				return nil, err
			}
			continue
		}
		return nil, errNoHeader
	}
	if buf[0] == proxyproto.SIGV1[0] {
		return takeLine(r, buf)
	}
	return takeV2(r, buf)
}

// begins says whether b and sig agree as far as both go.
func begins(b, sig []byte) bool {
	n := min(len(b), len(sig))
	return bytes.Equal(b[:n], sig[:n])
}

// takeLine reads byte by byte: some 40 short reads, once a connection.
func takeLine(r io.Reader, buf []byte) ([]byte, error) {
	for buf[len(buf)-1] != '\n' {
		if bytes.IndexByte(buf, '\n') >= 0 { // Shorter than any header.
			return nil, errNoHeader
		}
		if len(buf) == longestV1 {
			return nil, errTooLong
		}
		buf = append(buf, 0)
		if _, err := io.ReadFull(r, buf[len(buf)-1:]); err != nil {
			return nil, err
		}
	}
	return buf, nil
}

func takeV2(r io.Reader, buf []byte) ([]byte, error) {
	buf = append(buf, 0)
	if _, err := io.ReadFull(r, buf[shortest:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(buf[prefixV2-2:]))
	if n > longestV2 {
		return nil, errTooLong
	}
	buf = append(buf, make([]byte, n)...)
	if _, err := io.ReadFull(r, buf[prefixV2:]); err != nil {
		return nil, err
	}
	return buf, nil
}

// checkTLVs refuses extensions that do not fit, and a wrong checksum, which a
// receiver must verify where there is one (section 2.2.3).
func checkTLVs(h *proxyproto.Header, raw []byte) error {
	if h.Version != 2 || h.Command.IsLocal() { // What a local one carries is to be ignored.
		return nil
	}
	tlvs, err := h.TLVs()
	if err != nil {
		return err
	}
	at := prefixV2 + addressLength[raw[prefixV2-3]>>4]
	for range tlvs {
		n := int(binary.BigEndian.Uint16(raw[at+1:]))
		if proxyproto.PP2Type(raw[at]) == proxyproto.PP2_TYPE_CRC32C && (n != 4 || !sumFits(raw, at+3)) {
			return errChecksum
		}
		at += 3 + n
	}
	return nil
}

// addressLength is that of the addresses by family: none, IPv4, IPv6, Unix.
var addressLength = map[byte]int{0: 0, 1: 12, 2: 36, 3: 216}

// sumFits verifies the CRC-32C of a header, counted with zeros in its own place.
func sumFits(raw []byte, at int) bool {
	want := binary.BigEndian.Uint32(raw[at:])
	zeroed := bytes.Clone(raw)
	clear(zeroed[at : at+4])
	return crc32.Checksum(zeroed, crc32.MakeTable(crc32.Castagnoli)) == want
}
