import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.image.BufferedImage;
import java.awt.image.DataBufferByte;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Paths;

/** Scales a gray frame by the platform's own bilinear: in, height, width, out, height, width. */
public final class PlatformScaler {
    private PlatformScaler() {}

    public static void main(String[] arguments) throws IOException {
        BufferedImage frame = gray(arguments[1], arguments[2]);
        byte[] pixels = Files.readAllBytes(Paths.get(arguments[0]));
        System.arraycopy(pixels, 0, pixelsOf(frame), 0, pixels.length);
        BufferedImage scaled = gray(arguments[4], arguments[5]);
        Graphics2D graphics = scaled.createGraphics();
        graphics.setRenderingHint(
                RenderingHints.KEY_INTERPOLATION, RenderingHints.VALUE_INTERPOLATION_BILINEAR);
        graphics.drawImage(frame, 0, 0, scaled.getWidth(), scaled.getHeight(), null);
        graphics.dispose();
        Files.write(Paths.get(arguments[3]), pixelsOf(scaled));
    }

    private static BufferedImage gray(String height, String width) {
        return new BufferedImage(
                Integer.parseInt(width), Integer.parseInt(height), BufferedImage.TYPE_BYTE_GRAY);
    }

    private static byte[] pixelsOf(BufferedImage image) {
        return ((DataBufferByte) image.getRaster().getDataBuffer()).getData();
    }
}
