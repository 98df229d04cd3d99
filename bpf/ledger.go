package bpf

// Ledger is the account of one run: what the programs sent, and everything
// they could not send. Every event that happened is in exactly one of Read,
// Unread and Dropped.
type Ledger struct {
	Read    uint64 // events that Read returned
	Unread  uint64 // events left in the ring when it was closed
	Dropped uint64 // events that found the ring full

	// Missed counts runs of a program that the kernel skipped because the
	// program was already running on that CPU. It counts for the whole
	// machine: the task need not have been one of the jail.
	Missed uint64

	Unreadable  uint64 // events without their path: the task's memory could not be read
	Truncated   uint64 // events with a cut path: the ring had no room for the whole one
	Gone        uint64 // opens without their file: the descriptor was closed at once
	LostMarks   uint64 // tasks that could not be marked: nothing they did was seen
	LostLoaders uint64 // execs whose ELF interpreter could not be identified

	Handles  uint64 // open_by_handle_at calls that succeeded; each is an event, too
	IOUrings uint64 // io_uring_setup calls that succeeded: what the rings open is not seen
}

// Complete reports whether the events tell everything that the hooks can see.
// Handles are events like others, and what IOUrings stands for no hook sees:
// neither counts here.
func (l Ledger) Complete() bool {
	return l.Unread == 0 && l.Dropped == 0 && l.Missed == 0 &&
		l.Unreadable == 0 && l.Truncated == 0 && l.Gone == 0 &&
		l.LostMarks == 0 && l.LostLoaders == 0
}
