// A photo in, the best labels out: MediaPipe Tasks with a model that Graft exported.
//
// Labels and preprocessing are inside the file, so nothing about the model is written here.

import MediaPipeTasksVision
import UIKit

/// A label and how sure the model is of it, 0 to 1.
struct Label {
    let name: String
    let score: Float
}

enum PhotoClassifierError: Error {
    case noModel(String)
}

final class PhotoClassifier {
    private let classifier: ImageClassifier

    /// `name`: of the .tflite file in `bundle`.
    init(name: String = "model", bundle: Bundle = .main, most: Int = 3) throws {
        guard let path = bundle.path(forResource: name, ofType: "tflite") else {
            throw PhotoClassifierError.noModel("\(name).tflite is not in the app: add it to the target")
        }
        let options = ImageClassifierOptions()
        options.baseOptions.modelAssetPath = path
        options.runningMode = .image
        options.maxResults = most
        classifier = try ImageClassifier(options: options)
    }

    /// The best labels of `photo`, the surest first. Takes milliseconds: call it off the main thread.
    func labels(of photo: UIImage) throws -> [Label] {
        let result = try classifier.classify(image: MPImage(uiImage: photo))
        let categories = result.classificationResult.classifications.first?.categories ?? []
        return categories.map { Label(name: $0.categoryName ?? "", score: $0.score) }
    }
}
