// A photo in, the best labels out: MediaPipe Tasks with a model that Graft exported.
//
// Labels and scaling are inside the model's file; how a photo is fitted to the model's images, manifest.json says.

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.RectF
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.core.ImageProcessingOptions
import com.google.mediapipe.tasks.vision.core.RunningMode
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier
import java.io.Closeable
import org.json.JSONObject

/** A label and how sure the model is of it, 0 to 1. */
data class Label(val name: String, val score: Float)

private const val GREY = 128 // around a padded photo

class PhotoClassifier(
    context: Context,
    asset: String = "model.tflite",
    manifest: String = "manifest.json",
    most: Int = 3,
) : Closeable {
    private val described = JSONObject(context.assets.open(manifest).bufferedReader().use { it.readText() })
    private val fit = fitOf(described)
    private val shape = shapeOf(described)

    private val classifier =
        ImageClassifier.createFromOptions(
            context,
            ImageClassifier.ImageClassifierOptions.builder()
                .setBaseOptions(BaseOptions.builder().setModelAssetPath(asset).build())
                .setRunningMode(RunningMode.IMAGE)
                .setMaxResults(most)
                .build(),
        )

    /** The best labels of [photo] (ARGB_8888), the surest first. Takes milliseconds: call it off the main thread. */
    fun labels(photo: Bitmap): List<Label> {
        val looked = if (fit == "pad") onGrey(photo, shape) else photo
        val options = ImageProcessingOptions.builder()
        if (fit == "crop") options.setRegionOfInterest(centre(photo, shape))
        return classifier
            .classify(BitmapImageBuilder(looked).build(), options.build())
            .classificationResult()
            .classifications()
            .first()
            .categories()
            .map { Label(it.categoryName(), it.score()) }
    }

    override fun close() = classifier.close()
}

/** What the model was trained with: an older Graft knew nothing but stretching, and did not say it. */
private fun fitOf(manifest: JSONObject): String {
    val fit = manifest.getJSONObject("preprocessing").optString("fit", "stretch")
    require(fit in listOf("stretch", "crop", "pad")) { "manifest.json asks for the fit $fit, which is not known here" }
    return fit
}

/** Height and width of the model's images. MediaPipe takes RGB alone, and refuses other models as it opens them. */
private data class Shape(val height: Int, val width: Int)

private fun shapeOf(manifest: JSONObject): Shape {
    val sides = manifest.getJSONArray("inputs").getJSONObject(0).getJSONArray("shape") // batch, height, width, channels
    return Shape(sides.getInt(1), sides.getInt(2))
}

/** length * part / whole, halves rounded up, at least 1. */
private fun inProportion(length: Int, part: Int, whole: Int): Int =
    maxOf(1L, (2L * length * part + whole) / (2L * whole)).toInt()

private fun isWide(photo: Bitmap, shape: Shape) =
    photo.width.toLong() * shape.height >= photo.height.toLong() * shape.width

/** The largest centred part of the model's proportions, as region of interest: in shares of width and height. */
private fun centre(photo: Bitmap, shape: Shape): RectF {
    val wide = isWide(photo, shape)
    val width = if (wide) inProportion(photo.height, shape.width, shape.height) else photo.width
    val height = if (wide) photo.height else inProportion(photo.width, shape.height, shape.width)
    val left = (photo.width - width) / 2
    val top = (photo.height - height) / 2
    return RectF(
        left.toFloat() / photo.width,
        top.toFloat() / photo.height,
        (left + width).toFloat() / photo.width,
        (top + height).toFloat() / photo.height,
    )
}

/** MediaPipe has no padding of its own: the photo is drawn on grey of the model's proportions, which is then stretched. */
private fun onGrey(photo: Bitmap, shape: Shape): Bitmap {
    val wide = isWide(photo, shape)
    val width = if (wide) photo.width else inProportion(photo.height, shape.width, shape.height)
    val height = if (wide) inProportion(photo.width, shape.height, shape.width) else photo.height
    val whole = Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888)
    val canvas = Canvas(whole)
    canvas.drawColor(Color.rgb(GREY, GREY, GREY))
    canvas.drawBitmap(photo, ((width - photo.width) / 2).toFloat(), ((height - photo.height) / 2).toFloat(), null)
    return whole
}
