package filter

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// instructionSize is sizeof(struct sock_filter), linux/filter.h.
const instructionSize = 8

// Encode returns program as the kernel lays it out in memory, to be handed to
// the process that installs it.
func Encode(program []unix.SockFilter) []byte {
	b := make([]byte, 0, len(program)*instructionSize)
	for _, in := range program {
		b = binary.NativeEndian.AppendUint16(b, in.Code)
		b = append(b, in.Jt, in.Jf)
		b = binary.NativeEndian.AppendUint32(b, in.K)
	}
	return b
}

// Decode is the inverse of Encode.
func Decode(b []byte) ([]unix.SockFilter, error) {
	if len(b) == 0 || len(b)%instructionSize != 0 {
		return nil, fmt.Errorf("a seccomp program of %d bytes is not a whole number of %d-byte instructions", len(b), instructionSize)
	}
	program := make([]unix.SockFilter, len(b)/instructionSize)
	for i := range program {
		in := b[i*instructionSize:]
		program[i] = unix.SockFilter{
			Code: binary.NativeEndian.Uint16(in),
			Jt:   in[2],
			Jf:   in[3],
			K:    binary.NativeEndian.Uint32(in[4:]),
		}
	}
	return program, nil
}
