-- A depguard trace, version 1: everything one run did, in one SQLite file.
--
--   PRAGMA application_id  1146111828 (the letters DPGT): the file is a trace
--   PRAGMA user_version    1: this form of it; a change of any table raises it
--
-- Ids count from 0 without gaps, in the order in which things were first
-- seen. Times are nanoseconds since 1 January 1970 UTC; 0 is "not yet" or
-- "not known". Names, paths and arguments keep their bytes exactly: columns
-- of type ANY hold TEXT when the bytes are UTF-8 without NUL, else a BLOB.
-- Lists are JSON arrays of strings; an element that is not UTF-8 is the
-- object {"bytes": BASE64}. Unsigned 64-bit device and inode numbers are
-- stored as the signed integer of the same 64 bits.

-- The head of the trace: one row.
CREATE TABLE run (
  id          INTEGER PRIMARY KEY,  -- always 0
  command     TEXT    NOT NULL,     -- list: the command and its arguments
  dir         ANY     NOT NULL,     -- its working directory
  workspace   TEXT    NOT NULL,     -- list: the trees it may write
  mode        ANY     NOT NULL,     -- audit or enforce
  policy_file ANY     NOT NULL,     -- empty without a policy
  policy_text ANY     NOT NULL,     -- the policy as it was
  network     ANY     NOT NULL,     -- host or none
  started     INTEGER NOT NULL,     -- time
  ended       INTEGER NOT NULL,     -- time; 0: the run goes on, or was killed, and the trace is incomplete
  status      INTEGER NOT NULL,     -- exit status as depguard returned it; -1 without an end
  kernel      ANY     NOT NULL,     -- uname -r
  version     ANY     NOT NULL,     -- of depguard
  tail        ANY     NOT NULL      -- the last lines of output, when they passed through a pseudo-terminal
) STRICT;

-- What depguard had in force during the run, and what it had not.
CREATE TABLE mechanism (
  id     INTEGER PRIMARY KEY,
  name   ANY     NOT NULL,  -- notify, landlock, witness, view …
  active INTEGER NOT NULL,  -- 1 in force, 0 not
  detail ANY     NOT NULL   -- version or tier when active, the reason when not
) STRICT;

-- What the trace does not have. All zero: the trace is complete.
CREATE TABLE loss (
  name  TEXT    NOT NULL PRIMARY KEY,  -- kernel_dropped, unreadable …
  count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One image of one process: fork and exec both make a new one.
CREATE TABLE process (
  id      INTEGER PRIMARY KEY,
  pid     INTEGER NOT NULL,            -- thread group id in depguard's pid namespace
  parent  INTEGER REFERENCES process,  -- the image it was forked or executed from; NULL for the first
  exe     ANY     NOT NULL,            -- path of the program
  args    TEXT    NOT NULL,            -- list
  started INTEGER NOT NULL             -- time
) STRICT;

-- One file by identity.
CREATE TABLE file (
  id    INTEGER PRIMARY KEY,
  dev   INTEGER NOT NULL,  -- st_dev
  ino   INTEGER NOT NULL,  -- st_ino
  birth INTEGER NOT NULL,  -- time of birth (statx); 0 where the filesystem keeps none
  path  ANY     NOT NULL,  -- the canonical name under which it was found first
  mode  INTEGER NOT NULL   -- st_mode: type and permission bits
) STRICT;

-- Every name that was asked for, once.
CREATE TABLE name (
  id   INTEGER PRIMARY KEY,
  path ANY     NOT NULL  -- as asked, made absolute; not canonical
) STRICT;

-- Every rule behind a verdict, once.
CREATE TABLE rule (
  id   INTEGER PRIMARY KEY,
  text ANY     NOT NULL  -- as the policy names it; empty: no rule, undeclared or no policy
) STRICT;

-- One way in which one process used one file, or tried to use a name that
-- does not exist (a miss: file is NULL and created is 0).
CREATE TABLE access (
  id      INTEGER PRIMARY KEY,
  process INTEGER NOT NULL REFERENCES process,
  file    INTEGER REFERENCES file,           -- NULL: the name led to no file that could be located
  name    INTEGER NOT NULL REFERENCES name,  -- the path as asked
  op      TEXT    NOT NULL,                  -- read, write, exec, list, or several joined by +
  verdict TEXT    NOT NULL,                  -- allow, deny or hide
  rule    INTEGER NOT NULL REFERENCES rule,
  created INTEGER NOT NULL,                  -- 1: the name did not exist and the call asked to create it
  errno   INTEGER NOT NULL,                  -- what depguard answered with, or with verdict allow the kernel was expected to; 0 otherwise
  count   INTEGER NOT NULL,                  -- how many times
  first   INTEGER NOT NULL,                  -- time of the first
  seen    INTEGER NOT NULL                   -- sum of 1: by the supervisor, 2: by the kernel's witness
) STRICT;

-- Use of the network: connect(2) on an Internet address.
CREATE TABLE connect (
  id      INTEGER PRIMARY KEY,
  process INTEGER NOT NULL REFERENCES process,
  family  ANY     NOT NULL,  -- inet or inet6
  address ANY     NOT NULL,  -- host:port
  count   INTEGER NOT NULL
) STRICT;

-- Packages that own a file or a name of this trace; known once the run ended.
CREATE TABLE package (
  id      INTEGER PRIMARY KEY,
  name    ANY NOT NULL,  -- name, or name:arch
  version ANY NOT NULL
) STRICT;

-- Which packages a file belongs to.
CREATE TABLE owner (
  file    INTEGER NOT NULL REFERENCES file,
  package INTEGER NOT NULL REFERENCES package,
  PRIMARY KEY (file, package)
) STRICT, WITHOUT ROWID;

-- Which packages the symbolic links belong to that a name leads through.
CREATE TABLE name_owner (
  name    INTEGER NOT NULL REFERENCES name,
  package INTEGER NOT NULL REFERENCES package,
  PRIMARY KEY (name, package)
) STRICT, WITHOUT ROWID;

-- Files that were read, executed or listed.
CREATE VIEW reads AS
  SELECT file.path, access.op, sum(access.count) AS count, count(DISTINCT access.process) AS processes
  FROM access JOIN file ON file.id = access.file
  WHERE access.verdict = 'allow' AND access.op <> 'write'
  GROUP BY file.id, access.op ORDER BY file.path;

-- Files that were written, and names that were created.
CREATE VIEW writes AS
  SELECT coalesce(file.path, name.path) AS path, max(access.created) AS created,
         sum(access.count) AS count, count(DISTINCT access.process) AS processes
  FROM access JOIN name ON name.id = access.name LEFT JOIN file ON file.id = access.file
  WHERE access.op LIKE '%write%' OR access.created
  GROUP BY 1 ORDER BY 1;

-- Names that were asked for and did not exist.
CREATE VIEW misses AS
  SELECT name.path, sum(access.count) AS count, count(DISTINCT access.process) AS processes
  FROM access JOIN name ON name.id = access.name
  WHERE access.file IS NULL AND NOT access.created
  GROUP BY name.id ORDER BY name.path;

-- Uses of files that the policy does not declare.
CREATE VIEW undeclared AS
  SELECT name.path AS asked, file.path, access.op, access.verdict, access.count, access.first,
         process.pid, process.exe, process.args
  FROM access JOIN name ON name.id = access.name JOIN process ON process.id = access.process
       LEFT JOIN file ON file.id = access.file
  WHERE access.verdict <> 'allow' AND (access.file IS NOT NULL OR access.created)
  ORDER BY access.first, access.id;

-- How much of each package was used.
CREATE VIEW files_by_package AS
  SELECT package.name, package.version, count(DISTINCT access.file) AS files, sum(access.count) AS accesses
  FROM package JOIN owner ON owner.package = package.id JOIN access ON access.file = owner.file
  GROUP BY package.id ORDER BY package.name;
