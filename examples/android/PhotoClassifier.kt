// A photo in, the best labels out: MediaPipe Tasks with a model that Graft exported.
//
// Labels and scaling are inside the model's file; how a photo becomes a square, manifest.json says.

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
    private val fit = fitOf(context.assets.open(manifest).bufferedReader().use { it.readText() })

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
        val looked = if (fit == "pad") onGreySquare(photo) else photo
        val options = ImageProcessingOptions.builder()
        if (fit == "crop") options.setRegionOfInterest(centreSquare(photo))
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
private fun fitOf(manifest: String): String {
    val fit = JSONObject(manifest).getJSONObject("preprocessing").optString("fit", "stretch")
    require(fit in listOf("stretch", "crop", "pad")) { "manifest.json asks for the fit $fit, which is not known here" }
    return fit
}

/** The region of interest, in shares of width and height. */
private fun centreSquare(photo: Bitmap): RectF {
    val side = minOf(photo.width, photo.height)
    val left = (photo.width - side) / 2
    val top = (photo.height - side) / 2
    return RectF(
        left.toFloat() / photo.width,
        top.toFloat() / photo.height,
        (left + side).toFloat() / photo.width,
        (top + side).toFloat() / photo.height,
    )
}

/** MediaPipe has no padding of its own: the photo is drawn on a grey square, which is then stretched to a square. */
private fun onGreySquare(photo: Bitmap): Bitmap {
    val side = maxOf(photo.width, photo.height)
    val square = Bitmap.createBitmap(side, side, Bitmap.Config.ARGB_8888)
    val canvas = Canvas(square)
    canvas.drawColor(Color.rgb(GREY, GREY, GREY))
    canvas.drawBitmap(photo, ((side - photo.width) / 2).toFloat(), ((side - photo.height) / 2).toFloat(), null)
    return square
}
