package notify

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Call is a notified call with its arguments read from the task. Path is
// valid until the next Read.
type Call struct {
	Op      Operation
	Dir     int    // descriptor that a relative path is relative to, or unix.AT_FDCWD
	Path    []byte // as asked, without the NUL
	Flags   uint64 // open flags; for ExecAt its AT_* flags
	Resolve uint64 // RESOLVE_* of openat2(2)
	Address netip.AddrPort
}

// State says whether a call could be read.
type State uint8

// The three outcomes of Read.
const (
	Readable State = iota
	// Native: the arguments are wrong in a way for which the kernel has an
	// errno, or the task is gone. The call goes on.
	Native
	// Hidden: the kernel does not let us see the arguments. The call goes on,
	// and the trace has a hole.
	Hidden
)

// Reader reads the arguments of notified calls. It is used by one goroutine.
type Reader struct {
	memory memory
	path   [unix.PathMax]byte
	small  [128]byte
}

// Read reads the arguments of req. What it returns is what the task's memory
// held at that moment; another thread of the task can change it before the
// kernel reads it again. That is why a verdict on it is an explanation, and
// the guard is what enforces.
func (r *Reader) Read(l *Listener, req *Request, call *Call) State {
	how, narrow := layoutOf(req)
	args := req.Args
	if narrow {
		for i := range args {
			args[i] = uint64(uint32(args[i]))
		}
	}
	*call = Call{Op: how.op, Dir: unix.AT_FDCWD}
	var err error
	switch how.op {
	case Open, Open2, Exec, ExecAt:
		err = r.readPath(req, how, args, call)
	case Connect:
		err = r.readAddress(req, args[1], args[2], call)
	case SocketCall:
		err = r.readSocketCall(req, args[1], call)
	}
	switch {
	case errors.Is(err, errHidden):
		return Hidden
	case err != nil, !l.Valid(req):
		return Native
	}
	return Readable
}

func (r *Reader) readPath(req *Request, how layout, args [6]uint64, call *Call) (err error) {
	if how.dir >= 0 {
		call.Dir = int(int32(args[how.dir]))
	}
	call.Flags = how.fixedFlags
	if how.flags >= 0 {
		call.Flags = uint64(uint32(args[how.flags]))
	}
	if how.op == Open2 {
		if err := r.readOpenHow(req, args[2], args[3], call); err != nil {
			return err
		}
	}
	call.Path, err = r.memory.readString(req.PID, args[how.path], r.path[:])
	return err
}

// readOpenHow reads struct open_how (openat2(2)): flags, mode and resolve, 64
// bits each. A size that the kernel refuses is the kernel's to refuse.
func (r *Reader) readOpenHow(req *Request, addr, size uint64, call *Call) error {
	const known = 24
	if size < known {
		return unix.EINVAL
	}
	n, err := r.memory.read(req.PID, addr, r.small[:known])
	if err != nil {
		return err
	}
	if n < known {
		return unix.EFAULT
	}
	call.Flags = binary.NativeEndian.Uint64(r.small[0:])
	call.Resolve = binary.NativeEndian.Uint64(r.small[16:])
	return nil
}

// readSocketCall reads the argument block of i386's socketcall(2): three
// 32-bit words for SYS_CONNECT.
func (r *Reader) readSocketCall(req *Request, addr uint64, call *Call) error {
	block := r.small[:12]
	n, err := r.memory.read(req.PID, addr, block)
	if err != nil {
		return err
	}
	if n < len(block) {
		return unix.EFAULT
	}
	call.Op = Connect
	return r.readAddress(req, uint64(binary.NativeEndian.Uint32(block[4:])), uint64(binary.NativeEndian.Uint32(block[8:])), call)
}

// readAddress reads a struct sockaddr. Families other than IPv4 and IPv6 leave
// call.Address invalid: they stay on this machine.
func (r *Reader) readAddress(req *Request, addr, size uint64, call *Call) error {
	const inet6Size = 28
	n, err := r.memory.read(req.PID, addr, r.small[:min(size, inet6Size)])
	if err != nil {
		return err
	}
	b := r.small[:n]
	if len(b) < 2 {
		return nil
	}
	switch family := binary.NativeEndian.Uint16(b); {
	case family == unix.AF_INET && len(b) >= 8:
		call.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:]))
	case family == unix.AF_INET6 && len(b) >= 24:
		call.Address = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), binary.BigEndian.Uint16(b[2:]))
	}
	return nil
}
