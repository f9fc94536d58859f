package tlsconf

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// quiet returns a logger that writes everything at debug level. What the library
// finds worth an error is often one of several lines about the same thing; the one
// that counts is reported.
func quiet(log *zap.Logger) *zap.Logger {
	if log == nil {
		return zap.NewNop()
	}
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return debugCore{c} }),
		zap.AddStacktrace(zapcore.FatalLevel), zap.WithCaller(false))
}

// debugCore writes everything at debug level.
type debugCore struct{ zapcore.Core }

// Enabled implements [zapcore.Core], like the methods below.
func (c debugCore) Enabled(zapcore.Level) bool { return c.Core.Enabled(zapcore.DebugLevel) }

// With adds fields.
func (c debugCore) With(fields []zapcore.Field) zapcore.Core { return debugCore{c.Core.With(fields)} }

// Check asks for a debug line in the place of any other.
func (c debugCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write writes a debug line.
func (c debugCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	e.Level = zapcore.DebugLevel
	return c.Core.Write(e, fields)
}
