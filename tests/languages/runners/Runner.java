import java.io.BufferedOutputStream;
import java.io.DataOutputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Paths;

/** Runs a file of cases through generated contracts; tests/languages/protocol.py has the format. */
public final class Runner {
    private static final int END = 0xFFFFFFFF;
    private static final int PREPARE = 0;
    private static final int ANSWER = 1;

    private Runner() {}

    /** One generated contract. */
    interface Subject {
        byte[] prepare(Case given) throws Refusal;

        byte[] answer(Case given) throws Refusal;

        void requireVersion(int version) throws Refusal;
    }

    /** A contract's exception, whose class is another one for each contract. */
    static final class Refusal extends Exception {
        private static final long serialVersionUID = 1L;

        final int status;

        Refusal(int status) {
            this.status = status;
        }
    }

    static final class Case {
        final int contract;
        final int kind;
        final int height;
        final int width;
        final int channels;
        final int bits;
        final int orientation;
        final int version;
        final byte[] payload;
        final byte[] palette;

        Case(ByteBuffer file) {
            contract = file.getInt();
            kind = file.getInt();
            height = file.getInt();
            width = file.getInt();
            channels = file.getInt();
            bits = file.getInt();
            orientation = file.getInt();
            file.getInt(); // palette entries
            int payloadBytes = file.getInt();
            int paletteBytes = file.getInt();
            version = file.getInt();
            file.getInt();
            payload = padded(file, payloadBytes);
            palette = padded(file, paletteBytes);
        }

        float[] floats() {
            float[] values = new float[payload.length / 4];
            littleEndian(payload).asFloatBuffer().get(values);
            return values;
        }
    }

    /** Write a result for each case of the first file to the second. */
    public static void main(String[] arguments) throws IOException {
        ByteBuffer cases = littleEndian(Files.readAllBytes(Paths.get(arguments[0])));
        Subject[] subjects = Subjects.all();
        try (DataOutputStream results =
                new DataOutputStream(
                        new BufferedOutputStream(new FileOutputStream(arguments[1])))) {
            while (cases.getInt(cases.position()) != END) {
                Case given = new Case(cases);
                write(given, subjects[given.contract], results);
            }
        }
    }

    private static void write(Case given, Subject subject, DataOutputStream results)
            throws IOException {
        int status = 0;
        byte[] payload = {};
        try {
            payload = payload(given, subject);
        } catch (Refusal refusal) {
            status = refusal.status;
        }
        results.writeInt(Integer.reverseBytes(status));
        results.writeInt(Integer.reverseBytes(payload.length));
        results.write(payload);
        results.write(new byte[-payload.length & 7]);
    }

    private static byte[] payload(Case given, Subject subject) throws Refusal {
        switch (given.kind) {
            case PREPARE:
                return subject.prepare(given);
            case ANSWER:
                return subject.answer(given);
            default:
                subject.requireVersion(given.version);
                return new byte[0];
        }
    }

    static byte[] bytes(float[] values) {
        ByteBuffer bytes = room(4 * values.length);
        bytes.asFloatBuffer().put(values);
        return bytes.array();
    }

    static ByteBuffer room(int size) {
        return littleEndian(new byte[size]);
    }

    private static ByteBuffer littleEndian(byte[] bytes) {
        return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }

    private static byte[] padded(ByteBuffer file, int size) {
        byte[] content = new byte[size];
        file.get(content);
        file.position(file.position() + (-size & 7));
        return content;
    }
}
