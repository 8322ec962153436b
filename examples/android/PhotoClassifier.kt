// A photo in, the best labels out: MediaPipe Tasks with a model that Graft exported.
//
// Labels and preprocessing are inside the file, so nothing about the model is written here.

import android.content.Context
import android.graphics.Bitmap
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.core.RunningMode
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier
import java.io.Closeable

/** A label and how sure the model is of it, 0 to 1. */
data class Label(val name: String, val score: Float)

class PhotoClassifier(context: Context, asset: String = "model.tflite", most: Int = 3) : Closeable {
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
    fun labels(photo: Bitmap): List<Label> =
        classifier
            .classify(BitmapImageBuilder(photo).build())
            .classificationResult()
            .classifications()
            .first()
            .categories()
            .map { Label(it.categoryName(), it.score()) }

    override fun close() = classifier.close()
}
