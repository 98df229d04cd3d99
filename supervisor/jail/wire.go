package jail

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

type kind uint8

const (
	ready    kind = iota + 1 // init: the view stands
	proceed                  // supervisor: start the command
	listener                 // enter: here is the filter's listener
	noexec                   // enter: Number is the errno of the failed exec
	failed                   // init, enter: Text says what went wrong
	exited                   // init: Number is the wait status of the command
	forward                  // supervisor: Number is a signal for the command
)

// message is one packet of the pair.
type message struct {
	Kind   kind
	Number int
	Text   string
}

// maxMessage bounds a packet. Everything large travels in the configuration,
// which has a memfd of its own.
const maxMessage = 64 << 10

// maxDescriptors is how many descriptors one packet can bring.
const maxDescriptors = 2

// channel is one end of the pair. Sending is safe for concurrent use: a packet
// is one sendmsg(2).
type channel int

// newPair makes the two ends, both close-on-exec.
func newPair() (supervisor, jail channel, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("socketpair: %w", err)
	}
	return channel(fds[0]), channel(fds[1]), nil
}

// send sends m and duplicates of fds, which stay the caller's.
func (c channel) send(m message, fds ...int) error {
	m.Text = m.Text[:min(len(m.Text), maxMessage/2)] // it may name a command of any length
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(m); err != nil {
		return fmt.Errorf("BUG: encode a message: %w", err)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for {
		// MSG_NOSIGNAL: a peer that is gone is an error here, not SIGPIPE.
		err := unix.Sendmsg(int(c), b.Bytes(), oob, nil, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// receive waits for a packet. The descriptors that came with it are the
// caller's, and close-on-exec. It returns io.EOF when every other holder of the
// far end is gone.
func (c channel) receive() (message, []int, error) {
	buf := make([]byte, maxMessage)
	oob := make([]byte, unix.CmsgSpace(4*maxDescriptors))
	for {
		n, oobn, _, _, err := unix.Recvmsg(int(c), buf, oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECONNRESET):
			return message{}, nil, io.EOF
		case err != nil:
			return message{}, nil, fmt.Errorf("recvmsg: %w", err)
		case n == 0:
			return message{}, nil, io.EOF
		}
		fds, err := rights(oob[:oobn])
		if err != nil {
			return message{}, nil, err
		}
		var m message
		if err := gob.NewDecoder(bytes.NewReader(buf[:n])).Decode(&m); err != nil {
			closeAll(fds)
			return message{}, nil, fmt.Errorf("decode a message: %w", err)
		}
		return m, fds, nil
	}
}

func rights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control messages: %w", err)
	}
	var all []int
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("parse passed descriptors: %w", err)
		}
		all = append(all, fds...)
	}
	return all, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// writeConfig puts c into a memfd. Gob keeps strings byte by byte; JSON would
// replace what is not UTF-8 in arguments, environment and paths.
func writeConfig(c *Config) (int, error) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(c); err != nil {
		return -1, fmt.Errorf("BUG: encode the jail's configuration: %w", err)
	}
	fd, err := unix.MemfdCreate("depguard-jail", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	for data := b.Bytes(); len(data) > 0; {
		n, err := unix.Write(fd, data)
		if err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("write the jail's configuration: %w", err)
		}
		data = data[n:]
	}
	return fd, nil
}

// readConfig reads what writeConfig wrote. It does not move the descriptor's
// offset, which init and enter share.
func readConfig(fd int) (*Config, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat the jail's configuration: %w", err)
	}
	r := io.NewSectionReader(preader(fd), 0, st.Size)
	var c Config
	if err := gob.NewDecoder(r).Decode(&c); err != nil {
		return nil, fmt.Errorf("decode the jail's configuration: %w", err)
	}
	return &c, nil
}

type preader int

func (fd preader) ReadAt(p []byte, off int64) (int, error) {
	n, err := unix.Pread(int(fd), p, off)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil && err != io.EOF {
		err = os.NewSyscallError("pread", err)
	}
	return n, err
}
